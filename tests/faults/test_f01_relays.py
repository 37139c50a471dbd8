"""F01 below a relay: one of 32 sites stops reading; the other 31, and control, do not notice."""

from __future__ import annotations

import re
from dataclasses import replace

import anyio
import pytest

from flare_async.errors import ChannelReset
from flare_async.limits import KIB, MIB, Limits
from flare_async.net.registry import Transports
from flare_async.roles.relay import Relay
from flare_async.roles.round import RoundTask
from flare_async.testing.faults import OneWayCut
from flare_async.wire.frames import Ping
from tests.faults import test_f01_real_sockets as direct
from tests.faults.real_leaks import leaving_nothing
from tests.faults.real_peer import raw_site
from tests.faults.real_world import Validates, model, world
from tests.net.peers import now
from tests.roles.tree import ONE, tree

SITES = tuple(f"s{number:02}" for number in range(32))
STALLED, CALM = SITES[-1], SITES[0]
LIMITS = Limits(
    window_bytes=256 * KIB,
    frame_bytes=64 * KIB,
    stall_timeout=20.0,
    send_timeout=200.0,
    max_resends=0,  # the first stall is the last
)
# It goes on to say that it lives, and is patient with a relay that it does not hear.
CLIENT = replace(LIMITS, heartbeat_interval=10.0, stall_timeout=200.0)
# The model's KiB and the second at which one stalls: in the middle of all downloads.
CASES = [("splice", 512, 6.0), ("cache", 2048, 2.0)]
CONTROL = 0.25  # seconds: two round trips, and two frames ahead on each of two links
CREDIT = 4 * MIB  # of the relay, for all that passes


class Watch:
    """What a relay holds back for one site and for all, and how long control takes meanwhile."""

    def __init__(self, made):
        self.made, self.stalled, self.all, self.control = made, 0, 0, 0.0

    async def memory(self):
        """Look every hundredth of a second."""
        while True:
            held = {site: self._held(s) for site, s in self.made.relays["r1"].sites.items()}
            self.stalled = max(self.stalled, held.get(STALLED, 0))
            cache = self.made.relays["r1"].cache.peak  # of which sites get references
            self.all = max(self.all, cache or sum(held.values()))
            await anyio.sleep(0.01)

    async def answers(self):
        """Ask a site that goes on for something that it refuses, every half second."""
        while True:
            began = now()
            with pytest.raises(ChannelReset):
                await self.made.server.sites[CALM].open("nothing").receive()
            self.control = max(self.control, now() - began)
            await anyio.sleep(0.5)

    def _held(self, session):
        numbers = [channel.statistics() for channel in session.channels.values()]
        return sum(one.sent - one.acknowledged for one in numbers) + session.link.pending


async def play(mode, kibibytes, faults):
    """Run one round of 32 sites below a relay; return when they ended, and what was seen."""
    network = {"bandwidth": 1e6, "faults": faults}
    options = {"limits": LIMITS, "network": network, "mode": mode, "process_bytes": CREDIT}
    options["cache_bytes"] = CREDIT
    async with tree(ONE, {}, **options) as made:
        for site in SITES:
            made.start(made.site, site, Validates(), "r1", CLIENT)
        made.cohort.sites = await made.server.wait_for(SITES, len(SITES))
        watch, began = Watch(made), now()
        made.context.tasks.start_soon(watch.memory)
        made.context.tasks.start_soon(watch.answers)
        task = RoundTask("job", 0, 1, "validate")
        async with made.cohort.round(task, model(kibibytes), quorum=31) as updates:
            arrived = [site async for site, _ in updates]
        records = {site: record for (_, site), record in made.seen.records.items()}
        return arrived, {s: r.ended - began for s, r in records.items()}, records, watch


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "kibibytes", "at"), CASES)
def test_f01_one_of_32_below_a_relay_stops_reading_and_the_others_notice_nothing(
    sim, mode, kibibytes, at
):
    """Their times stay, the relay holds a window for it, control stays quick, its end names it."""
    _, calm, _, before = sim(lambda: play(mode, kibibytes, ()))
    fault = OneWayCut("down", at=at, site=STALLED)
    arrived, times, records, watch = sim(lambda: play(mode, kibibytes, (fault,)))
    assert calm[STALLED] > at, "the stall comes in the middle of its download"
    assert set(arrived) == set(SITES) - {STALLED}
    assert max(times[site] for site in arrived) <= 1.05 * max(calm[site] for site in arrived)
    assert STALLED in records[STALLED].reason
    assert times[STALLED] <= at + 2 * LIMITS.stall_timeout + 2
    assert 0 < watch.stalled <= LIMITS.window_bytes + 3 * LIMITS.frame_bytes
    assert max(watch.all, before.all) <= CREDIT
    assert max(watch.control, before.control) <= CONTROL


@pytest.mark.slow
def test_f01_who_stops_reading_below_a_relay_on_real_sockets_is_excluded_by_name():
    """Its relay keeps a window for it; three sites beside it bring what they bring without it."""
    limits = direct.LIMITS

    async def stops_reading(address):
        async with raw_site(address) as raw:
            await raw.greet("raw")
            await raw.ask_for_model("w", direct.MODEL.nbytes, 256 * KIB)
            while True:
                raw.send(Ping(0))
                await anyio.sleep(limits.heartbeat_interval)

    async def main():
        tcp = "tcp://127.0.0.1:0"
        async with (
            world(direct.SITES, Transports(limits), limits, address=tcp) as made,
            anyio.create_task_group() as tasks,
        ):
            address = await tasks.start(Relay(made.context, "r1").run, made.address, tcp)
            tasks.start_soon(stops_reading, address)
            for site in direct.SITES[:3]:
                made.start(site, Validates(), address=address)
            await made.server.wait_for(direct.SITES, 4)
            arrived = await made.validate(0, direct.MODEL, quorum=3)
            tasks.cancel_scope.cancel()
        return arrived, made

    arrived, made = leaving_nothing(main)
    assert sorted(arrived) == ["s0", "s1", "s2"]
    stalled = r"raw stalls its pulls: raw pull: no progress for 1.. s, 0 of 262144 bytes acknow"
    assert re.search(stalled, made.reason("raw"))
