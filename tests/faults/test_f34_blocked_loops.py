"""F34: user code that keeps the loop to itself for five seconds costs nobody a session."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from flare_async.limits import KIB, Limits
from flare_async.net.clock import LoopClock
from flare_async.net.rng import SeededRandom
from flare_async.testing.faults import SlowReader
from flare_async.testing.network import SimNetwork
from tests.faults.real_world import Validates, model, world

SITES = ("s0", "s1", "s2")
BLOCKED = 5.0
MODEL = model(1024)
LIMITS = Limits(
    heartbeat_interval=0.5,
    handshake_timeout=0.5,
    stall_timeout=2.0,
    window_bytes=256 * KIB,
    frame_bytes=64 * KIB,
)


def block():
    """Keep the loop to ourselves: its clock goes on, and nothing else happens."""
    asyncio.get_running_loop().now += BLOCKED


class Blocks(Validates):
    """A worker that blocks before it works."""

    async def run(self, task):
        """Block and work."""
        block()
        return await super().run(task)


def weigh(site, meta):
    """Weigh an update; block at the first."""
    if site == SITES[0]:
        block()
    return 1.0


def played(sim, worker, **options):
    """Run a round whose other two sites are in the middle of their download when it blocks."""
    slow = SlowReader(200 * KIB, sites=SITES[1:], direction="down")

    async def main():
        network = SimNetwork(LoopClock(), SeededRandom(2), faults=(slow,))
        async with world(SITES, network, LIMITS) as made:
            for site in SITES:
                works = worker if site == SITES[0] else Validates()
                made.start(site, works, network=network.of(site))
            await made.server.wait_for(SITES, 3)
            sessions = [made.server.sites[site] for site in SITES]
            arrived = await made.validate(0, MODEL, **options)
            same = [made.server.sites[site] for site in SITES] == sessions
            return sorted(arrived), same, [one.epoch for one in sessions], made.context.lag.blocked

    with capture_logs() as logs:
        result = sim(main)
    return result, [log["callback"] for log in logs if log["event"] == "loop_blocked"]


@pytest.mark.parametrize(
    ("worker", "options", "name"),
    [(Validates, {"weigh": weigh}, "weigh"), (Blocks, {}, "Blocks.run")],
    ids=["server", "site"],
)
def test_f34_nobody_is_declared_dead_or_stalled_and_the_callback_is_named(
    sim, worker, options, name
):
    """Five seconds are ten heartbeats and two and a half stall timeouts of each of them."""
    (arrived, same, epochs, blocked), named = played(sim, worker(), **options)
    assert (arrived, same, epochs) == (list(SITES), True, [0, 0, 0])
    assert blocked == {name: BLOCKED}
    assert named == [name]
