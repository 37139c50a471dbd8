"""The heartbeat: a silent peer is noticed after three intervals, a slow one never."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from flare_async.errors import LinkLost
from flare_async.limits import KIB, Limits
from flare_async.net.heartbeat import LATE_BEATS, Heartbeat
from flare_async.testing.link_checks import HELLO
from flare_async.testing.pair import connected
from flare_async.wire.frames import Ping, Pong
from tests.net.hand_clock import HandClock
from tests.net.peers import lone_session, memory_links, now, sim_pair

INTERVAL = 5.0
LIMITS = Limits(heartbeat_interval=INTERVAL)


def pings(tap):
    """Return how many pings left through a tap."""
    return sum(frame.kind is Ping for frame in tap.sent())


def test_a_silent_peer_is_lost_after_three_intervals(sim):
    """The session ends with LinkLost, between three intervals and a little more; it had pinged."""

    async def main():
        async with lone_session(LIMITS) as (session, far, recorder):
            far.start(recorder)
            far.send_soon([HELLO])
            async with session:
                channel = session.open("any")
                start = now()
                with pytest.raises(LinkLost) as caught:
                    await channel.receive()
                late = now() - start - 3 * INTERVAL
            sent = [frame for frame in recorder.frames if isinstance(frame, Ping)]
            return late, len(sent), str(caught.value)

    late, count, message = sim(main)
    assert -0.1 <= late <= 0.25
    assert count == 3  # the first one measured the path
    assert message == "peer: silent for 15.0 s"


def test_an_answer_keeps_the_link(sim):
    """Any frame within the three intervals is a sign of life."""

    async def main():
        async with lone_session(LIMITS) as (session, far, recorder):
            far.start(recorder)
            far.send_soon([HELLO])
            async with session:
                for _ in range(10):
                    await asyncio.sleep(2.9 * INTERVAL)
                    far.send_soon([Pong(0)])
                return session.ended

    assert sim(main) is False


def test_idle_peers_keep_each_other_for_days(sim):
    """Two idle sessions exchange a ping an interval or less, and neither is lost."""

    async def main():
        async with sim_pair(LIMITS) as pair:
            await asyncio.sleep(1000 * INTERVAL)
            counts = pings(pair.near), pings(pair.far)
            return pair.here.ended, pair.there.ended, max(counts) <= 1000 <= sum(counts) + 10

    assert sim(main) == (False, False, True)


def test_a_busy_link_sends_no_pings(sim):
    """Bulk one way and acknowledgements the other are signs enough; one ping measured the path."""

    async def main():
        async with sim_pair(LIMITS, bandwidth=200_000.0) as pair:
            mine, theirs = await pair.open("bulk")
            async with anyio.create_task_group() as group:
                group.start_soon(mine.send, bytes(10_000 * KIB))
                heard = 0
                while heard < 10_000 * KIB:
                    heard += len(await theirs.receive())
            return now() > 10 * INTERVAL, pings(pair.near), pings(pair.far)

    assert sim(main) == (True, 1, 1)


@pytest.mark.parametrize("leased", [False, True])
def test_a_very_slow_link_is_not_lost(sim, leased):
    """A frame that takes longer than three intervals still moves: nobody is declared dead."""
    size = 1024 * KIB

    async def main():
        async with sim_pair(LIMITS, bandwidth=10_000.0) as pair:
            theirs, mine = await pair.open("bulk", None)
            if leased:
                mine = pair.there.open("pull")
                mine.lease(memoryview(bytearray(size)))
                theirs = await anext(pair.here)
            theirs.send_soon(bytes(size))
            theirs.end()
            if leased:
                await mine.landed()
                return now() > 6 * INTERVAL
            heard = 0
            while heard < size:
                heard += len(await mine.receive())
            return now() > 6 * INTERVAL

    assert sim(main)


def test_a_memory_link_has_no_heartbeat():
    """What lives in this process cannot fall silent, and ten thousand timers would cost."""

    async def main():
        async with connected(memory_links, LIMITS) as pair:
            await pair.round_trip()
            timers = len(asyncio.get_running_loop()._scheduled)
            return timers, pings(pair.near)

    assert asyncio.run(main()) == (0, 0)


def test_ending_stops_the_heartbeat(sim):
    """After the session's end no timer of it is left."""

    async def main():
        async with sim_pair(LIMITS):
            pass
        loop = asyncio.get_running_loop()
        return [timer for timer in loop._scheduled if not timer.cancelled()]

    assert sim(main) == []


class Beaten:
    """A heartbeat on a clock that is moved by hand, and what it did."""

    def __init__(self):
        self.clock, self.pings, self.silent = HandClock(), 0, []
        self.heart = Heartbeat(self.clock, LIMITS, self.ping, self.silent.append)
        self.heart.start()

    def ping(self):
        self.pings += 1


def test_a_pause_of_our_own_loop_is_no_silence_of_the_peer():
    """However long it was, the late beat asks, and the verdict takes its whole time again."""
    beaten = Beaten()
    beaten.clock.jump_to(100 * INTERVAL)
    assert (beaten.pings, beaten.silent) == (1, [])
    beaten.clock.move_to(101 * INTERVAL)
    assert (beaten.pings, beaten.silent) == (2, [])
    beaten.heart.heard = beaten.clock.now()
    beaten.clock.move_to(103.9 * INTERVAL)
    assert beaten.silent == []


def test_a_peer_that_is_silent_after_a_pause_is_lost():
    """The lateness is forgiven once, and what was silence before it counts."""
    beaten = Beaten()
    beaten.clock.jump_to(100 * INTERVAL)
    beaten.clock.move_to(103 * INTERVAL)
    assert beaten.silent == [3 * INTERVAL]
    assert beaten.pings == 2


def test_a_loop_that_is_always_late_still_finds_a_silent_peer():
    """It judges after a dozen late beats in a row."""
    beaten = Beaten()
    for beat in range(1, LATE_BEATS + 1):
        beaten.clock.jump_to(2 * beat * INTERVAL)
        assert beaten.silent == []
    beaten.clock.jump_to(2 * (LATE_BEATS + 1) * INTERVAL)
    assert len(beaten.silent) == 1
    assert beaten.pings == LATE_BEATS
