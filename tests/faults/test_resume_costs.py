"""What a session without a link holds and does: no copy of its payload, no word after its end."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc

import pytest

from flare_async.limits import MIB, Limits
from flare_async.net.clock import LoopClock
from flare_async.net.rng import SeededRandom
from flare_async.testing.network import SimNetwork
from flare_async.transfer.pull import PULL_SCHEMA, PULL_TOPIC
from flare_async.wire.frames import ResetCode
from tests.faults.real_ends import Dialling, acceptor, dialled
from tests.faults.real_world import Validates, model, world
from tests.net.peers import now

BULK = 64 * MIB
LIMITS = Limits(
    window_bytes=2 * BULK,
    link_bytes=8 * BULK,
    process_bytes=32 * BULK,
    session_grace=300.0,
    retry_cap=8.0,
)


def traced(gauge):
    """Return how many bytes more there are than at the start, and were at most."""
    gc.collect()
    held, most = tracemalloc.get_traced_memory()
    return held - gauge, most - gauge


async def in_flight(network, accepted, session):
    """Send over one channel until that much is not acknowledged; return the sending end."""
    mine = session.open("bulk")
    while not accepted.sessions:
        await asyncio.sleep(0.01)
    theirs = await anext(accepted.sessions[0])
    mine.send_soon(memoryview(bytes(4 * BULK)))
    while mine.statistics().sent - mine.statistics().acknowledged < BULK:
        await theirs.receive()  # what is consumed widens the window
        await asyncio.sleep(0.3)
    network.links[-1].freeze()  # what is on the way stays there
    return mine


@pytest.mark.slow
def test_retries_of_a_lost_link_hold_no_extra_copy_of_the_payload(sim):
    """64 MiB are sent and not acknowledged; two minutes of dialling in vain cost nothing."""

    async def main():
        network = SimNetwork(LoopClock(), SeededRandom(5), limits=LIMITS, latency=(0.05, 0.05))
        async with acceptor(network, "sim://far", LIMITS) as accepted:
            dial = Dialling(network, "sim://far")
            async with dialled(dial, LIMITS) as session:
                mine = await in_flight(network, accepted, session)
                unacknowledged = mine.statistics().sent - mine.statistics().acknowledged
                listener = network._listeners.pop("sim://far")
                tracemalloc.start()
                gauge = tracemalloc.get_traced_memory()[0]
                network.links[-1].cut()
                await asyncio.sleep(120)
                growth = traced(gauge)
                tracemalloc.stop()
                assert not session.attached
                network._listeners["sim://far"] = listener
                return unacknowledged, growth, dial.count

    unacknowledged, (held, most), dials = sim(main)
    assert unacknowledged >= BULK
    assert dials >= 10
    assert held < 2 * MIB
    assert most < 2 * MIB


def test_a_site_that_is_cancelled_without_a_link_dials_no_more(sim):
    """The end of a job ends the pause before the next try at once, and no frame leaves later."""

    async def main():
        network = SimNetwork(LoopClock(), SeededRandom(5))
        async with world(("s0",), network, Limits()) as made:
            made.start("s0", Validates())
            await made.server.wait_for(["s0"], 1)
            listener = network._listeners.pop("sim://server")
            network.links[-1].cut()
            await asyncio.sleep(30)
            network._listeners["sim://server"] = listener
            began, links = now(), network.made
            made.scopes["s0"].cancel()
            while made.left["s0"] == "running" and made.server.sites["s0"].attached:
                await asyncio.sleep(0.001)
            await asyncio.sleep(120)
            return now() - began, network.made - links, len(network.links)

    assert sim(main) == (pytest.approx(120, abs=0.1), 0, 0)


def test_a_pull_that_waits_before_its_next_try_is_not_tried_again_after_its_round(sim):
    """The round ends in the pause: the site asks for nothing any more."""
    names = []

    async def main():
        network = SimNetwork(LoopClock(), SeededRandom(5))
        async with world(("s0", "s1"), network, Limits(carried_bytes=0)) as made:
            for site in ("s0", "s1"):
                made.start(site, Validates())
            await made.server.wait_for(["s0", "s1"], 2)
            session = made.server.sites["s0"]
            session.serve(PULL_TOPIC, stalling(made.server.shelf, names))
            await made.validate(0, model(64), quorum=1, deadline=0.2)
            asked = len(names)
            await asyncio.sleep(600)
            return asked, len(names), len(session.channels), made.reason("s0")

    asked, in_all, channels, reason = sim(main)
    assert 1 <= asked <= 3
    assert (in_all, channels, reason) == (asked, 0, "the round was closed")


def stalling(shelf, names):
    """Return a handler of pulls that gives the manifest and then stalls every tensor."""

    def handle(channel):
        request = PULL_SCHEMA.decode(channel.header, Limits())
        if not request.tensor:
            shelf.answer(channel)
            return
        names.append(request.tensor)
        channel.reset(ResetCode.STALLED, "acknowledgements stopped")

    return handle
