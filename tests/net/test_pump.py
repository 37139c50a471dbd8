"""The pump: one frame a turn, never beyond the mark, and a link that takes nothing is given up."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import anyio
import pytest

from flare_async.errors import LinkLost, LocalProtocolError, SendStalled
from flare_async.limits import KIB, MIB, Limits
from flare_async.testing.link_checks import HELLO
from flare_async.testing.pair import connected
from flare_async.testing.tap import TappedLink
from flare_async.wire.frames import Ack, Data, Goodbye
from tests.net.peers import lone_session, now, sim_links, sim_pair

SEND_TIMEOUT = 30.0
LIMITS = Limits(send_timeout=SEND_TIMEOUT, heartbeat_interval=100.0)


class BreaksAt(TappedLink):
    """A link with a bug: it raises for what lies at an offset or beyond, and for goodbyes."""

    def __init__(self, link, offset):
        super().__init__(link)
        self.offset = offset

    def send_soon(self, frames):
        if any(type(f) is Goodbye or (type(f) is Data and f.offset >= self.offset) for f in frames):
            raise ValueError("no more of this")
        super().send_soon(frames)


@asynccontextmanager
async def broken(offset):
    """Yield a pair of which the near end has the bug, and what its loop is told of it."""

    @asynccontextmanager
    async def links():
        async with sim_links()() as (near, far):
            yield BreaksAt(near, offset), far

    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _, said: told.append(said["exception"]))
    async with connected(links, LIMITS) as pair:
        yield pair, told


def greeted(far, recorder=None):
    """Let the raw end say hello with much credit; it reads only with a recorder."""
    if recorder is not None:
        far.start(recorder)
    far.send_soon([HELLO])


async def fill(session):
    """Queue more than a link that nobody reads can take."""
    channel = session.open("bulk")
    session.machine._table.channels[channel.id].outgoing.limit = 16 * MIB
    channel.send_soon(bytes(8 * MIB))
    return channel


def test_a_link_that_accepts_nothing_is_given_up_in_time(sim):
    """SendStalled comes within [T, T + 0.25 s] with the bytes that wait, and fails the channels."""

    async def main():
        async with lone_session(LIMITS) as (session, far, _):
            greeted(far)
            async with session:
                start = now()
                channel = await fill(session)
                with pytest.raises(SendStalled) as caught:
                    await channel.receive()
                return now() - start, caught.value, session.error, session.link.closed

    waited, error, ended_with, closed = sim(main)
    assert SEND_TIMEOUT <= waited <= SEND_TIMEOUT + 0.25
    assert error is ended_with
    assert error.pending > 0
    assert closed, "a link that may hold half a frame was not poisoned"


def test_a_poisoned_session_opens_nothing(sim):
    """Whoever comes later gets the same typed error."""

    async def main():
        async with lone_session(LIMITS) as (session, far, _):
            greeted(far)
            async with session:
                channel = await fill(session)
                with pytest.raises(SendStalled):
                    await channel.receive()
                with pytest.raises(SendStalled):
                    session.open("late")
                with pytest.raises(SendStalled):
                    await channel.send(b"late")
                with pytest.raises(SendStalled):
                    await anext(session)
                return session.watchdog.parked

    assert sim(main) == 0


def test_a_slow_link_is_not_given_up(sim):
    """A write buffer that shrinks within each T is progress, however long it takes."""

    async def main():
        limits = Limits(send_timeout=SEND_TIMEOUT, stall_timeout=200.0)
        async with sim_pair(limits, bandwidth=5_000.0) as pair:
            mine, theirs = await pair.open("bulk")
            mine.send_soon(bytes(600 * KIB))
            mine.end()
            heard = 0
            async for chunk in theirs:
                heard += len(chunk)
            return heard, now() > 3 * SEND_TIMEOUT

    assert sim(main) == (600 * KIB, True)


def test_the_write_buffer_holds_about_two_frames(sim):
    """However much is queued, the session hands over one frame a turn up to the link's mark."""

    async def main():
        async with lone_session(LIMITS) as (session, far, _):
            greeted(far)
            async with session:
                await fill(session)
                await asyncio.sleep(1)
                pending, frame = session.link.pending, session.link.frame_bytes
                session.link.abort()
                return pending <= 2 * frame + KIB, session.link.writable

    assert sim(main) == (True, False)


def test_a_goodbye_leaves_a_full_link(sim):
    """Leaving while the link is full still says so; what was queued behind it is dropped."""

    async def main():
        async with lone_session(LIMITS) as (session, far, recorder):
            greeted(far)
            async with anyio.create_task_group() as group, session:
                await fill(session)
                await asyncio.sleep(1)
                asyncio.get_running_loop().call_later(1, far.start, recorder)
                group.start_soon(recorder.until_lost)
            carried = sum(len(f.payload) for f in recorder.frames if isinstance(f, Data))
            return recorder.frames[-1], carried < 8 * MIB, recorder.lost_with

    assert sim(main) == (Goodbye(0, "done"), True, [None])


def test_leaving_a_link_that_takes_nothing_is_bounded(sim):
    """After ``shutdown_timeout`` the link is closed by force."""

    async def main():
        async with lone_session(LIMITS) as (session, far, _):
            greeted(far)
            async with session:
                await fill(session)
                await asyncio.sleep(1)
                start = now()
            return round(now() - start, 3), session.link.closed, session.error

    assert sim(main) == (LIMITS.shutdown_timeout, True, None)


def test_a_link_that_ends_while_it_is_full_ends_the_pump(sim):
    """No task waits for room on a link that is gone, whenever it went."""

    async def main(delay):
        async with lone_session(LIMITS) as (session, far, _):
            greeted(far)
            async with session:
                channel = await fill(session)
                asyncio.get_running_loop().call_later(delay, session.link.cut)
                with pytest.raises(LinkLost):
                    await channel.receive()

    for delay in (0.0, 0.001, 0.01, 1.0):
        sim(lambda delay=delay: main(delay))


def test_control_frames_are_not_held_up_by_a_full_queue(sim):
    """While bulk waits for credit, acknowledgements leave at once."""

    async def main():
        async with sim_pair(LIMITS) as pair:
            stuck, _ = await pair.open("stuck")
            stuck.send_soon(bytes(MIB))
            _, theirs = await pair.open("other")
            before = len(pair.near.passed)
            theirs.send_soon(b"x" * 100)
            await pair.round_trip()
            other = next(c for c in pair.here.channels.values() if c.topic == "other")
            await other.receive()
            await pair.round_trip()
            kinds = [frame.kind for frame in pair.near.passed[before:] if frame.sent]
            return kinds.count(Ack) >= 1, theirs.statistics().acknowledged

    assert sim(main) == (True, 100)


@pytest.mark.parametrize("held", [False, True], ids=["in-a-turn", "in-the-task"])
def test_a_link_that_raises_ends_its_session_and_no_other(sim, held):
    """Whoever waits learns it; the loop is told once; what shares the task group lives on."""

    async def main():
        async with broken(0 if held else 256 * KIB) as (pair, told):
            if held:
                pair.near.hold()
            channel = await fill(pair.here)
            pair.near.release()
            with pytest.raises(LocalProtocolError, match="ValueError: no more of this"):
                await channel.receive()
            return pair.here.error is not None, pair.near.link.link.closed, [str(e) for e in told]

    assert sim(main) == (True, True, ["no more of this"])


def test_a_link_that_raises_at_the_last_word_ends_its_session(sim):
    """Leaving raises it; nobody who has a channel waits for ever."""

    async def main():
        async with broken(0) as (pair, _):
            channel = pair.here.open("any")
            with pytest.raises(ValueError, match="no more of this"):
                pair.here.leave(0, "done")
            with pytest.raises(LocalProtocolError):
                await channel.receive()
            return pair.here.ended, pair.near.link.link.closed

    assert sim(main) == (True, True)
