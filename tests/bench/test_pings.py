"""Schedules of pings, on a simulated link."""

from __future__ import annotations

import anyio
import pytest

from bench.pings import Schedule, percentile, round_trips
from flare_async.net.channel import Channel
from flare_async.net.clock import LoopClock
from flare_async.net.rng import SeededRandom
from flare_async.testing import SimNetwork, connected, link_pair, run_sim
from flare_async.wire.session import OpenOptions


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([1.0], 0.99, 1.0), ([1.0, 2.0, 3.0, 4.0], 0.5, 3.0), (list(range(100)), 0.99, 99)],
)
def test_a_percentile_is_one_of_the_values(
    values: list[float], share: float, expected: float
) -> None:
    """Nothing is interpolated: what is reported happened."""
    assert percentile(values, share) == expected


def test_every_ping_of_a_schedule_comes_back() -> None:
    """As many round trips are measured as were asked for, however the echoes are joined."""

    async def main() -> list[float]:
        network = SimNetwork(LoopClock(), SeededRandom(3))
        async with connected(lambda: link_pair(network, "sim://echo")) as pair:
            channel, far = await pair.open("pings", OpenOptions(urgent=True))
            async with anyio.create_task_group() as group:
                group.start_soon(echo, far)
                trips = await round_trips(channel, Schedule(20, rate=1e6))
                channel.end()
            return trips

    trips = run_sim(main)

    assert len(trips) == 20
    assert min(trips) > 0


async def echo(channel: Channel) -> None:
    """Send back what comes."""
    async for chunk in channel:
        channel.send_soon(bytes(chunk))
    channel.end()
