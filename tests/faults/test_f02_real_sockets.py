"""F02 on real sockets: a path of a kilobyte a second is below ``min_rate``, whoever waits."""

from __future__ import annotations

import re

import pytest

from flare_async.limits import KIB, Limits
from flare_async.net.registry import Transports
from flare_async.testing.proxy import ToxicProxy
from flare_async.testing.toxics import Toxics
from tests.faults.real_leaks import leaving_nothing
from tests.faults.real_world import Validates, model, world

SITES = ("quick", "other", "crawls")
MODEL = model(512)
LIMITS = Limits(
    stall_timeout=1.0,
    min_rate=16 * KIB,
    window_bytes=64 * KIB,
    frame_bytes=4 * KIB,
    control_bytes=4 * KIB,
    channels=256,
)


@pytest.mark.slow
def test_f02_who_crawls_on_a_real_socket_is_excluded_and_the_round_goes_on():
    """It moves all the time, so no stall is found; the rate is what excludes it, by name."""

    async def main():
        tcp = "tcp://127.0.0.1:0"
        async with (
            world(SITES, Transports(LIMITS), LIMITS, address=tcp) as made,
            ToxicProxy(made.address) as proxy,
        ):
            for site in SITES:
                made.start(
                    site, Validates(), address=proxy.address if site == "crawls" else made.address
                )
            await made.server.wait_for(SITES, 3)
            proxy.set(Toxics(bandwidth=6 * KIB, slice_bytes=512), "down")
            arrived = await made.validate(0, MODEL, quorum=2)
            return arrived, made, proxy.down.forwarded

    arrived, made, forwarded = leaving_nothing(main)
    assert sorted(arrived) == ["other", "quick"]
    reason = r"pull: below min_rate: \d+ bytes a second over 1 s, at least 16384 are asked for"
    assert re.search(reason, made.reason("crawls"))
    assert 4 * KIB < forwarded < MODEL.nbytes // 4
