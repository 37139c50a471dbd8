"""Rounds in which sites lose what they offer, or die, after their results were accepted."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from dataclasses import dataclass

import anyio
import numpy as np

from flare_async.errors import FlareError
from flare_async.limits import KIB, Limits
from flare_async.roles.client import Client
from flare_async.roles.round import RoundTask
from flare_async.transfer.mean import WeightedMean
from flare_async.transfer.tensors import TensorSet
from tests.faults.world import now, world
from tests.roles.federation import Trains

__all__ = ["MODEL", "Mortal", "Outcome", "Uploads", "summed", "uploads", "without"]

SIZES = {"a": 90_000, "b": 5, "c": 60_001}  # a tensor of several frames, a tiny one, an odd one
MODEL = TensorSet.from_params({name: np.arange(n, dtype=np.float32) for name, n in SIZES.items()})
LIMITS = Limits(
    window_bytes=128 * KIB, link_bytes=256 * KIB, frame_bytes=32 * KIB, control_bytes=32 * KIB
)
SITES = ("first", "dies", "last")


class Mortal:
    """The network of a site that dies with its first link: it never dials again."""

    def __init__(self, network):
        self.network, self.scope, self.dialled = network, None, False

    async def connect(self, address):
        """Connect once."""
        if self.dialled:
            self.scope.cancel()
            await anyio.sleep_forever()
        self.dialled = True
        return await self.network.connect(address)


@dataclass(frozen=True)
class Outcome:
    """What a round came to: the digest of its model, its records, and when it ended."""

    digest: str
    records: dict
    seconds: float

    @property
    def status(self):
        """Return how each site ended."""
        return {site: str(record.status) for site, record in self.records.items()}


async def summed(made, number=0, limits=LIMITS, **options):
    """Run one round of the model over the cohort; return what it came to."""
    began = now()
    with WeightedMean(MODEL, order=made.cohort.sites, limits=limits) as mean:
        async with made.cohort.round(
            RoundTask("job", number, 9), MODEL, reducer=mean, weigh=weighed, **options
        ) as updates:
            arrived = [site async for site, _ in updates]
        assert len(arrived) == len(set(arrived)), "S1: one contribution a site"
        digest = mean.finish().model_digest()
    found = {site: r for (at, site), r in made.seen.records.items() if at == number}
    return Outcome(digest, found, now() - began)


def weighed(site, meta):
    """Return the weight that a site asks for."""
    return meta["weight"]


class Uploads:
    """Three sites of which the middle one is in trouble; ``again`` starts it anew."""

    def __init__(self, made, worker):
        self.made, self.worker = made, worker

    def die(self):
        """End the middle site without a word."""
        self.made.scopes["dies"].cancel()

    async def again(self, network=None):
        """Be the middle site until the round's end, or its own."""
        made = self.made
        port = network or made.network.of("dies")
        seen = dataclasses.replace(made.context, network=port)
        client = made.clients["dies"] = Client(seen, "dies", self.worker)
        with suppress(FlareError), anyio.CancelScope() as made.scopes["dies"]:
            if isinstance(network, Mortal):
                network.scope = made.scopes["dies"]
            await client.run(made.address)


def workers():
    """Return what the living sites do."""
    return {"first": Trains(0.1, weight=3.0), "last": Trains(0.7, weight=0.3)}


async def without(limits=LIMITS):
    """Return the digest of a round without the middle site."""
    async with world(workers(), limits=limits, bandwidth=1e7) as made:
        return (await summed(made, limits=limits)).digest


async def uploads(act, *faults, limits=LIMITS, mortal=False, worker=None, **options):
    """Run one round while ``act(uploads)`` goes on; return what it came to.

    With ``mortal`` the middle site dies with its first link.
    """
    async with world(workers(), *faults, limits=limits, bandwidth=1e7) as made:
        made.cohort.sites = SITES
        one = Uploads(made, worker or Trains(0.4, weight=2.0))
        port = Mortal(made.network.of("dies")) if mortal else None
        made.context.tasks.start_soon(one.again, port)
        await made.server.wait_for(SITES, 3)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(act, one)
            outcome = await summed(made, limits=limits, **options)
            tasks.cancel_scope.cancel()
        return outcome
