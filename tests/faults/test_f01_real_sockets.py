"""F01 on real sockets: a raw site takes its task, asks for the model and reads no further."""

from __future__ import annotations

import re

import anyio
import pytest

from flare_async.limits import KIB, MIB, Limits
from flare_async.net.registry import Transports
from flare_async.wire.frames import Ping
from tests.faults.real_leaks import leaving_nothing
from tests.faults.real_peer import raw_site
from tests.faults.real_world import Validates, model, world

SITES = ("s0", "s1", "s2", "raw")
MODEL = model(24 * KIB)
LIMITS = Limits(
    handshake_timeout=1.5,
    stall_timeout=1.0,
    send_timeout=1.5,
    heartbeat_interval=0.3,
    retry_cap=1.0,
    session_grace=1.5,
    max_resends=0,
)


async def stop_reading(address, window):
    """Be a site that asks for everything, goes on to say that it lives, and reads nothing."""
    async with raw_site(address) as raw:
        await raw.greet("raw")
        await raw.ask_for_model("w", MODEL.nbytes, window)
        while True:
            raw.send(Ping(0))
            await anyio.sleep(LIMITS.heartbeat_interval)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("window", "reason"),
    [
        (256 * KIB, "raw pull: no progress for 1.. s, 0 of 262144 bytes acknowledged"),
        (
            16 * MIB,
            r"raw: no new link within 1.5 s after: .* accepted no byte for 1.. s, \d+ bytes",
        ),
    ],
    ids=["its window", "the link"],
)
def test_f01_who_stops_reading_is_excluded_and_the_round_goes_on(window, reason):
    """Whether its credit or the link is used up: three sites bring what they bring without it."""

    async def main():
        async with (
            world(SITES, Transports(LIMITS), LIMITS, address="tcp://127.0.0.1:0") as made,
            anyio.create_task_group() as group,
        ):
            group.start_soon(stop_reading, made.address, window)
            for site in SITES[:3]:
                made.start(site, Validates())
            await made.server.wait_for(SITES, 4)
            pending = []

            async def watch():
                while True:
                    session = made.server.sites.get("raw")
                    pending.append(0 if session is None else session.link.pending)
                    await anyio.sleep(0.02)

            group.start_soon(watch)
            arrived = await made.validate(0, MODEL, quorum=3)
            group.cancel_scope.cancel()
        return arrived, made, max(pending)

    arrived, made, pending = leaving_nothing(main)
    assert sorted(arrived) == ["s0", "s1", "s2"]
    assert re.match(reason, made.reason("raw"))
    assert pending <= 2 * LIMITS.frame_bytes
