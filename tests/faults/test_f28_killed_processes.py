"""F28 with real processes: sites that are killed in the middle of their uploads over tcp."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack

import pytest

from flare_async.limits import KIB, MIB, Limits
from flare_async.net.callbacks import start_soon
from flare_async.net.registry import Transports
from flare_async.roles.counted_sink import CountedSink
from flare_async.roles.round import RoundTask
from flare_async.transfer.mean import WeightedMean
from flare_async.transfer.tensors import TensorSet
from tests.faults.real_child import KILLED
from tests.faults.real_leaks import leaving_nothing
from tests.faults.real_process import child
from tests.faults.real_world import model, world
from tests.roles.federation import Trains
from tests.transfer.helpers import adopt

LIMITS = Limits(**KILLED)
PATIENT = Limits(**KILLED | {"session_grace": 30.0})  # a process takes seconds to start again
MODEL = model(6 * KIB, names=("w", "v"))
LIVING = {"first": (0.1, 3.0), "last": (0.7, 0.3)}
IN_FLIGHT = 2 * LIMITS.window_bytes  # of two tensors: may still come when the process is gone
PLACES = {"k0": 1, "k1": 2 * MIB, "k2": 4 * MIB, "k3": MODEL.nbytes - IN_FLIGHT - 64 * KIB}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


class Deadly(CountedSink):
    """A sink that lets a site be killed when so many of its bytes are here."""

    def __init__(self, sink, at, kill):
        super().__init__(sink)
        self.at, self.kill = at, kill

    def landed(self, name, offset, nbytes):
        """Count, and kill once: more of its bytes may be under way."""
        before = self.got
        super().landed(name, offset, nbytes)
        if before < self.at <= self.got:
            self.kill()


class Watched(WeightedMean):
    """A mean that kills: ``deadly`` maps a site to a place and what ends its process there."""

    deadly: dict

    def stage(self, site, weight, kind=None):
        """Return a site's sink; a site is killed once."""
        sink = super().stage(site, weight, kind)
        found = self.deadly.pop(site, None)
        return sink if found is None else Deadly(sink, *found)


def mean_of(**sites):
    """Return the digest of the mean of these sites' updates, made without any network."""
    with WeightedMean(MODEL, order=list(sites)) as mean:
        for site, (step, weight) in sites.items():
            arrays = {name: array + step for name, array in MODEL.numpy().items()}
            update = {name: array.astype("float32") for name, array in arrays.items()}
            adopt(mean.stage(site, weight), TensorSet.from_params(update))
            mean.commit(site)
        return mean.finish().model_digest()


async def played(made, deadly, quorum):
    """Run one round; return its model's digest."""
    with Watched(MODEL, order=made.cohort.sites, limits=LIMITS) as mean:
        mean.deadly = deadly
        async with made.cohort.round(
            RoundTask("job", 0, 1),
            MODEL,
            reducer=mean,
            quorum=quorum,
            weigh=lambda _, meta: meta["weight"],
        ) as updates:
            async for _ in updates:
                pass
        return mean.finish().model_digest()


async def joined(made, stack, name):
    """Start a site's process; return it."""
    arguments = ("uploads", name, made.address, "0.4", "2.0")
    process = await stack.enter_async_context(child(*arguments))
    assert await process.words() == ["started"]
    return process


def federation(limits=LIMITS):
    """Return a server whose cohort is the killed sites between two living ones."""
    sites = ("first", *PLACES, "last")
    return world(sites, Transports(limits), limits, address="tcp://127.0.0.1:0")


def start_living(made):
    """Start the sites that live in this process."""
    for name, (step, weight) in LIVING.items():
        made.start(name, Trains(step, weight=weight))


def test_f28_processes_killed_at_several_bytes_of_their_uploads_never_change_the_sum():
    """At the first bytes, at a third, at two thirds, shortly before the end: four at once."""

    async def main():
        async with federation() as made, AsyncExitStack() as stack:
            start_living(made)
            deadly = {}
            for name, place in PLACES.items():
                deadly[name] = place, (await joined(made, stack, name)).kill
            await made.server.wait_for(made.cohort.sites, 6)
            return await played(made, deadly, quorum=2), made.seen.records

    digest, records = leaving_nothing(main)
    assert digest == mean_of(**LIVING)
    for name, place in PLACES.items():
        reason = records[0, name].reason
        found = re.match(rf"result_source_lost: {name}: .* (\d+) of {MODEL.nbytes} bytes", reason)
        assert place <= int(found[1]) <= min(place + IN_FLIGHT + 64 * KIB, MODEL.nbytes - 1)


def test_f28_a_killed_process_that_is_started_again_is_counted_once():
    """Its task is offered again within the round; the sum is the one of three calm sites."""

    async def main():
        async with federation(PATIENT) as made, AsyncExitStack() as stack:
            start_living(made)
            made.cohort.sites = ("first", "k1", "last")
            process = await joined(made, stack, "k1")

            back = asyncio.Event()

            async def again():
                await joined(made, stack, "k1")
                back.set()

            def die():
                process.kill()
                start_soon(made.context.tasks, again)

            await made.server.wait_for(made.cohort.sites, 3)
            digest = await played(made, {"k1": (2 * MIB, die)}, quorum=3)
            await back.wait()  # it may say so after it has worked
            return digest, made.seen.status()

    digest, status = leaving_nothing(main)
    assert status == dict.fromkeys(("first", "k1", "last"), "ok")
    assert digest == mean_of(first=LIVING["first"], k1=(0.4, 2.0), last=LIVING["last"])
