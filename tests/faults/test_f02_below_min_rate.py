"""F02: who moves, but less than ``min_rate``, is excluded for that, and nobody else is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flare_async.limits import KIB, Limits
from flare_async.net.clock import LoopClock
from flare_async.net.rng import SeededRandom
from flare_async.testing.faults import SlowReader
from flare_async.testing.network import SimNetwork
from tests.faults.real_world import Validates, model, world

SITES = ("quick", "slower", "crawls")
MODEL = model(1024)
LIMITS = Limits(stall_timeout=60.0, min_rate=4 * KIB, window_bytes=256 * KIB, frame_bytes=64 * KIB)


def played(sim, faults, site_limits=None, limits=LIMITS):
    """Run a round; return who came and the world."""

    async def main():
        network = SimNetwork(LoopClock(), SeededRandom(2), bandwidth=1e6, faults=faults)
        async with world(SITES, network, limits) as made:
            for site in SITES:
                made.start(
                    site, Validates(), network=network.of(site), limits=site_limits or limits
                )
            await made.server.wait_for(SITES, 3)
            return await made.validate(0, MODEL, quorum=2), made

    return sim(main)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [1, 1 * KIB, 3 * KIB])
@pytest.mark.parametrize("judge", ["both", "server"])
def test_f02_who_crawls_is_excluded_and_who_is_slow_is_not(sim, rate, judge):
    """Whoever measures it, the record says why; six KiB a second pass where four are asked for."""
    faults = (
        SlowReader(rate, site="crawls", direction="down", start=0.5),
        SlowReader(6 * KIB, site="slower", direction="down", start=0.5),
    )
    arrived, made = played(sim, faults, None if judge == "both" else Limits())
    ended = made.ended()
    assert arrived == ["quick", "slower"]
    assert "pull: below min_rate: " in made.reason("crawls")
    assert "at least 4096 are asked for" in made.reason("crawls")
    assert ended["crawls"] <= 3 * LIMITS.stall_timeout
    assert ended["slower"] > LIMITS.stall_timeout


@pytest.mark.slow
def test_f02_no_rate_is_asked_for_unless_somebody_says_so(sim):
    """Without ``min_rate`` the same three sites bring what they have, however long it takes."""
    faults = (SlowReader(3 * KIB, site="crawls", direction="down", start=0.5),)
    arrived, made = played(sim, faults, limits=replace(LIMITS, min_rate=0))
    assert sorted(arrived) == sorted(SITES)
    assert made.ended()["crawls"] > 3 * LIMITS.stall_timeout
