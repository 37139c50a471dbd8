"""F01: a site that stops reading in the middle of its download slows nobody but itself."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

import anyio
import pytest

from flare_async.limits import KIB, Limits
from flare_async.net.clock import LoopClock
from flare_async.net.rng import SeededRandom
from flare_async.testing.faults import Fault, OneWayCut
from flare_async.testing.network import SimNetwork
from flare_async.testing.strikes import Cut
from tests.faults.real_world import Validates, model, world
from tests.net.peers import now

SITES = tuple(f"s{number:02}" for number in range(32))
STALLED = SITES[-1]
MODEL = model(1024)
LIMITS = Limits(
    window_bytes=256 * KIB,
    frame_bytes=64 * KIB,
    stall_timeout=20.0,
    send_timeout=200.0,
    max_resends=0,  # the first stall is the last
)
# It goes on to say that it lives, and is patient with a server that it does not hear.
CLIENT = replace(LIMITS, heartbeat_interval=10.0, stall_timeout=200.0)


async def play(faults):
    """Run one round of 32 sites; return the world and the most that the server held back."""
    network = SimNetwork(LoopClock(), SeededRandom(3), bandwidth=1e6, limits=LIMITS, faults=faults)
    most = {"pending": 0, "unacknowledged": 0, "sent": 0, "moved": 0.0}
    async with world(SITES, network, LIMITS) as made:
        workers = {site: Validates() for site in SITES}
        for site in SITES:
            made.start(site, workers[site], network=network.of(site), limits=CLIENT)
        await made.server.wait_for(SITES, len(SITES))

        async def watch():
            while True:
                session = made.server.sites[STALLED]
                numbers = [channel.statistics() for channel in session.channels.values()]
                debt = sum(one.sent - one.acknowledged for one in numbers)
                most["pending"] = max(most["pending"], session.link.pending)
                most["unacknowledged"] = max(most["unacknowledged"], debt)
                sent = max((one.sent for one in numbers), default=0)
                if sent > most["sent"]:
                    most["sent"], most["moved"] = sent, now() - began
                await anyio.sleep(0.01)

        began = now()
        made.context.tasks.start_soon(watch)
        arrived = await made.validate(0, MODEL, quorum=len(SITES) - 1)
        return made, arrived, most, workers


@dataclass(frozen=True, slots=True)
class SmallOnly(Fault):
    """Links on which the handshake passes and nothing later: a path that loses long packets."""

    seconds: float = 0.045  # one latency more than the last word of a resume needs

    def opens_at(self, now, made):
        """Return never, once a link is older than its handshake."""
        return math.inf if made >= self.start and now > made + self.seconds else now


@pytest.mark.slow
def test_f01_one_of_32_stops_reading_and_the_others_notice_nothing(sim):
    """They need what they need without it; its buffers are bounded; its end names the culprit."""
    calm = sim(lambda: play(()))[0].ended()
    made, arrived, most, workers = sim(lambda: play((OneWayCut("down", at=0.5, site=STALLED),)))
    ended = made.ended()
    others = set(SITES) - {STALLED}
    assert set(arrived) == others
    assert {worker.digests[0] for site, worker in workers.items() if site in others} == {
        MODEL.model_digest()
    }
    assert max(ended[site] for site in others) <= 1.05 * max(calm[site] for site in others)
    assert -0.05 <= ended[STALLED] - most["moved"] - LIMITS.stall_timeout <= 0.25
    assert most["unacknowledged"] <= LIMITS.window_bytes
    assert most["pending"] <= 3 * LIMITS.frame_bytes
    reason = rf"{STALLED} pull: no progress for 20.0 s, \d+ of {most['sent']} bytes acknowledged"
    assert re.fullmatch(reason, made.reason(STALLED))


def test_f01_who_never_asks_again_after_a_stall_is_not_waited_for(sim):
    """Without a re-pull for another ``stall_timeout`` the site is excluded."""
    patient = replace(LIMITS, max_resends=3)
    faults = (OneWayCut("down", at=0.5, site="s01"),)

    async def main():
        network = SimNetwork(LoopClock(), SeededRandom(3), bandwidth=1e6, faults=faults)
        async with world(SITES[:2], network, patient) as made:
            for site in SITES[:2]:
                made.start(site, Validates(), network=network.of(site), limits=CLIENT)
            await made.server.wait_for(SITES[:2], 2)
            return await made.validate(0, MODEL, quorum=1), made

    arrived, made = sim(main)
    assert arrived == ["s00"]
    assert made.ended()["s01"] <= 2 * LIMITS.stall_timeout + 2


def test_f01_a_path_on_which_only_handshakes_pass_is_given_up(sim):
    """Each new link brings patience, but not without end: the site fails, the round goes on."""
    faults = (SmallOnly(site="s00", start=0.3, direction="down"), Cut(at=0.5, site="s00"))
    sites = SITES[:2]

    async def main():
        network = SimNetwork(
            LoopClock(), SeededRandom(3), bandwidth=1e6, faults=faults, latency=(0.01, 0.01)
        )
        async with world(sites, network, LIMITS) as made:
            for site in sites:
                made.start(site, Validates(), network=network.of(site))
            await made.server.wait_for(sites, 2)
            return await made.validate(0, MODEL, quorum=1), made, network.made

    arrived, made, links = sim(main)
    longest = LIMITS.session_grace + 4 * LIMITS.stall_timeout + 3 * LIMITS.heartbeat_interval
    assert arrived == ["s01"]
    assert made.ended()["s00"] <= longest
    assert "no progress for 20.0 s" in made.reason("s00")
    assert links <= longest / LIMITS.heartbeat_interval
