"""Sessions: hellos, ends and cancelled waits, in virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import anyio
import pytest

from flare_async.errors import (
    ChannelReset,
    HandshakeFailed,
    LinkLost,
    LocalProtocolError,
    RemoteProtocolError,
)
from flare_async.limits import Limits
from flare_async.net.clock import LoopClock
from flare_async.net.session import Session
from flare_async.net.watchdog import Watchdog
from flare_async.testing.link_checks import HELLO
from flare_async.testing.pair import connected
from flare_async.wire.frames import Goodbye, Hello, Open, Reset, ResetCode
from flare_async.wire.session import OpenOptions
from tests.net.peers import (
    cancelled_at,
    lone_session,
    make_network,
    memory_links,
    now,
    sim_links,
    sim_pair,
)

LIMITS = Limits()
TURNS = 12  # more suspensions than any of these waits has


async def accept_all(session):
    """Enter a session and accept until it ends."""
    async with session:
        async for _ in session:
            pass


async def handshake_error(session):
    """Return what entering a session raises."""
    with pytest.raises(HandshakeFailed) as caught:
        await session.__aenter__()
    return caught.value


def test_a_peer_without_a_hello_fails_the_handshake_in_time(sim):
    """HandshakeFailed comes at ``handshake_timeout`` and names the address; the link is closed."""

    async def main():
        async with lone_session() as (session, far, recorder):
            far.start(recorder)
            start = now()
            error = await handshake_error(session)
            return now() - start, error.peer, session.link.closed, session.watchdog.parked

    waited, peer, closed, parked = sim(main)
    assert LIMITS.handshake_timeout <= waited <= LIMITS.handshake_timeout + 0.25
    assert (peer, closed, parked) == ("sim://there", True, 0)


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([replace(HELLO, version=2)], "version"),
        ([HELLO, HELLO], "bad_head"),
        ([HELLO, Open(2, "a"), Open(2, "b")], "bad_channel"),
    ],
)
def test_a_peer_that_breaks_the_protocol_is_told_why(sim, frames, reason):
    """It gets a Goodbye with the reason, then the end of the link; we get a typed error."""

    async def main():
        async with lone_session() as (session, far, recorder):
            far.start(recorder)
            far.send_soon(frames)
            with pytest.raises((HandshakeFailed, RemoteProtocolError), match=reason):
                await accept_all(session)
            await recorder.until_lost()
            return recorder.frames[-1], recorder.lost_with

    last, lost = sim(main)
    assert (last.code, last.message.partition(":")[0]) == (ResetCode.PROTOCOL, reason)
    assert lost == [None]


def test_a_peer_that_speaks_something_else_is_refused(sim):
    """Garbage instead of a hello is a HandshakeFailed that says so."""

    async def main():
        async with lone_session() as (session, far, recorder):
            far.start(recorder)
            far._pipe.write([b"GET / HTTP/1.1\r\n\r\n" + bytes(50)])
            return str(await handshake_error(session))

    assert "not_flare" in sim(main)


def test_a_peer_that_leaves_during_the_handshake(sim):
    """An end before the hello is a HandshakeFailed, at once."""

    async def main():
        async with lone_session() as (session, far, recorder):
            far.start(recorder)
            asyncio.get_running_loop().call_later(1, far.abort)
            await handshake_error(session)
            return now() < 2

    assert sim(main)


def test_channels_fail_when_the_link_is_cut(sim):
    """Every waiting task gets the same typed error; nothing is watched any more."""

    async def main():
        async with sim_pair() as pair:
            (mine, theirs), (other, _) = await pair.open("a"), await pair.open("b")
            waits = [mine.receive, theirs.receive, lambda: other.send(bytes(2**20)), other.landed]
            asyncio.get_running_loop().call_later(1, pair.near.link.cut)
            results = await asyncio.gather(*(wait() for wait in waits), return_exceptions=True)
            return [type(error) for error in results], pair.left(), pair.watchdog.parked

    assert sim(main) == ([LinkLost] * 4, [], 0)


def test_accepting_ends_with_the_session(sim):
    """Iteration raises what broke the link, and ends without an error after a goodbye."""

    async def accept(session, results):
        try:
            results.append([channel.topic async for channel in session])
        except LinkLost as error:
            results.append(type(error))

    async def main(end):
        results = []
        async with sim_pair() as pair, anyio.create_task_group() as group:
            group.start_soon(accept, pair.there, results)
            pair.here.open("one")
            await asyncio.sleep(1)
            await end(pair)
        return results

    async def cut(pair):
        pair.near.link.cut()

    async def leave(pair):
        await pair.here.__aexit__(None, None, None)

    assert sim(lambda: main(cut)) == [LinkLost]
    assert sim(lambda: main(leave)) == [["one"]]


def test_a_served_topic_is_not_iterated(sim):
    """Its handler gets the channel on the reading path, all others are accepted."""

    async def main():
        served = []
        async with sim_pair() as pair:
            pair.there.serve("mine", served.append)
            pair.here.open("mine", b"header")
            pair.here.open("other")
            accepted = await anext(pair.there)
            return [channel.header for channel in served], accepted.topic

    assert sim(main) == ([b"header"], "other")


def test_a_second_acceptor_is_refused(sim):
    """One task accepts at a time, and the first is not disturbed."""

    async def main():
        async with sim_pair() as pair, anyio.create_task_group() as group:
            got = []

            async def first():
                got.append((await anext(pair.there)).topic)

            group.start_soon(first)
            await asyncio.sleep(1)
            with pytest.raises(LocalProtocolError, match="already has somebody"):
                await anext(pair.there)
            pair.here.open("for the first")
            await asyncio.sleep(1)
            return got

    assert sim(main) == ["for the first"]


def test_reset_channels_do_not_pile_up(sim):
    """A peer that opens and resets in a row takes no more room than one that keeps them open."""

    async def main():
        async with lone_session(Limits(channels=4)) as (session, far, recorder):
            far.start(recorder)
            far.send_soon([HELLO])
            async with session:
                for number in range(2, 100, 2):
                    far.send_soon([Open(number, "burst"), Reset(number, 1, "never mind")])
                await asyncio.sleep(1)
                return len(session._lobby.channels) <= 4, len(session.channels), session.ended

    assert sim(main) == (True, 0, False)


def test_a_session_whose_link_has_ended_before_starts_no_heartbeat(sim):
    """The link tells so when it is started; no timer of the session is left."""

    async def main():
        async with lone_session() as (session, far, _):
            far.abort()
            await asyncio.sleep(1)
            with pytest.raises(HandshakeFailed):
                await session.__aenter__()
            return session.attached, [
                h for h in asyncio.get_running_loop()._scheduled if not h.cancelled()
            ]

    assert sim(main) == (False, [])


def test_frames_follow_both_sides_limits(sim):
    """Each side names the longest frame it takes; the shorter one counts."""

    async def main():
        small = Limits(frame_bytes=64 * 1024)
        async with connected(sim_links(), LIMITS, small) as pair:
            mine, theirs = await pair.open("bulk")
            mine.send_soon(bytes(500_000))
            mine.end()
            async for _ in theirs:
                pass
            return max(frame.nbytes for frame in pair.near.sent())

    assert sim(main) == 64 * 1024


def test_over_memory_frames_have_no_length_limit():
    """A payload of any size is one object, handed over once."""

    async def main():
        async with connected(memory_links) as pair:
            mine = pair.here.open("pull", options=OpenOptions(end=True, leased=True, window=2**24))
            mine.collect(2**24)
            theirs = await anext(pair.there)
            theirs.send_soon(bytes(2**24))
            theirs.end()
            await mine.landed()
            return [len(chunk) for chunk in mine.collected()]

    assert asyncio.run(main()) == [2**24]


@pytest.mark.parametrize("late", [False, True])
def test_connecting_can_be_cancelled_anywhere(sim, late):
    """A connect that is cancelled at any suspension leaves no link and no task."""

    async def main(turn):
        network = make_network()
        listener = await network.listen("sim://there")
        cancelled = await cancelled_at(network.connect("sim://there"), turn, late=late)
        await listener.aclose()
        await asyncio.sleep(1)
        return cancelled, network.links

    results = [sim(lambda turn=turn: main(turn)) for turn in range(TURNS)]
    assert results[0][0]
    assert not results[-1][0]
    assert not any(links for cancelled, links in results if cancelled)


@pytest.mark.parametrize("late", [False, True])
def test_entering_can_be_cancelled_anywhere(sim, late):
    """A handshake that is cancelled closes the link and leaves no watch, timer or task."""

    async def main(turn):
        async with lone_session() as (session, far, recorder):
            far.start(recorder)
            asyncio.get_running_loop().call_later(0.5, far.send_soon, [HELLO])
            cancelled = await cancelled_at(session.__aenter__(), turn, late=late)
            if cancelled:
                await recorder.until_lost()
                assert session.ended
                assert session.link.closed
            else:
                await session.__aexit__(None, None, None)
            return cancelled, session.watchdog.parked

    results = [sim(lambda turn=turn: main(turn)) for turn in range(TURNS)]
    assert results[0][0]
    assert not results[-1][0]
    assert all(parked == 0 for _, parked in results)


SENT = bytes(range(256)) * 400
WAITS = {
    "send": lambda mine, theirs: mine.send(SENT),
    "drained": lambda mine, theirs: mine.drained(),
    "receive": lambda mine, theirs: theirs.receive(),
    "receive_moving": lambda mine, theirs: theirs.receive_moving(),
    "landed": lambda mine, theirs: theirs.landed(),
}


async def interrupted_wait(name, turn, late):
    """Cancel one wait of a channel; return what its peer heard and what is left of it."""
    async with sim_pair() as pair, anyio.create_task_group() as group:
        mine, theirs = await pair.open("any")
        heard, loop = bytearray(), asyncio.get_running_loop()

        async def hear_from(second):
            await asyncio.sleep(second - now())
            async for chunk in theirs:
                heard.extend(chunk)

        if name == "drained":
            mine.send_soon(SENT)
        if name in {"send", "drained"}:
            group.start_soon(hear_from, 1)
        else:
            loop.call_later(1, mine.send_soon, SENT[:1000])
        loop.call_later(5, mine.end)
        cancelled = await cancelled_at(WAITS[name](mine, theirs), turn, late=late)
        if name not in {"send", "drained"}:
            await hear_from(3)
        theirs.end()
        await asyncio.sleep(9 - now())  # a watch that was left would fire later
        return cancelled, bytes(heard), pair.watchdog.parked, pair.left()


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("name", WAITS)
def test_a_channels_waits_can_be_cancelled_anywhere(sim, name, late):
    """After the cancel no watch is left, nothing is lost but what was not sent, and it goes on."""
    for turn in range(TURNS):
        cancelled, heard, parked, left = sim(lambda turn=turn: interrupted_wait(name, turn, late))
        if not cancelled:
            break
        assert (parked, left) == (0, [])
        assert SENT.startswith(heard)
        assert len(heard) == {"send": len(heard), "drained": len(SENT)}.get(name, 1000)
    assert 1 <= turn < TURNS - 1


def test_who_was_woken_and_cancelled_wakes_the_next(sim):
    """A channel that arrives while its acceptor is cancelled goes to the next acceptor."""

    async def main():
        async with sim_pair() as pair:
            asyncio.get_running_loop().call_later(1, pair.here.open, "kept")
            cancelled = await cancelled_at(pair.there.__anext__(), 0, late=True)
            with anyio.fail_after(5):
                return cancelled, (await anext(pair.there)).topic

    assert sim(main) == (True, "kept")


def test_a_stall_that_meets_a_cancel_is_not_reported_twice(sim):
    """The watchdog's error for a wait that is cancelled in the same turn is nobody's."""

    async def main():
        clock = LoopClock()
        async with sim_pair() as pair:
            mine, _ = await pair.open("any")
            cancelled = await cancelled_at(mine.receive_moving(), 0, late=True)
            return cancelled, pair.watchdog.parked, clock.now() >= 10

    import gc

    assert sim(main) == (True, 0, True)
    gc.collect()


def test_a_session_is_entered_once(sim):
    """A second block over the same session is the caller's mistake."""

    async def main():
        async with sim_pair() as pair:
            with pytest.raises(LocalProtocolError, match="hello once"):
                await pair.here.__aenter__()

    sim(main)


def test_a_cancelled_block_says_goodbye(sim):
    """Cancelling what runs inside the block is an orderly end for the peer."""

    async def main():
        async with lone_session() as (session, far, recorder):
            far.start(recorder)
            far.send_soon([HELLO])
            with anyio.move_on_after(1):
                async with session:
                    await asyncio.sleep(100)
            await recorder.until_lost()
            return recorder.frames[-1], recorder.lost_with, session.watchdog.parked

    assert sim(main) == (Goodbye(0, "done"), [None], 0)


def test_hellos_carry_what_the_endpoint_says(sim):
    """Name, role and the longest frame travel in the hello; the session's id is new each time."""

    async def main():
        async with sim_pair() as pair:
            return pair.here.hello, pair.there.hello

    theirs, mine = sim(main)
    assert isinstance(mine, Hello)
    assert (mine.peer, theirs.peer, mine.role) == ("connector", "acceptor", "test")
    assert mine.frame_bytes == LIMITS.frame_bytes
    assert mine.session != theirs.session


def test_a_reset_during_a_send_is_raised_there(sim):
    """Who waits for credit learns of the peer's reset at once."""

    async def main():
        async with sim_pair() as pair:
            mine, theirs = await pair.open("any")
            asyncio.get_running_loop().call_later(1, theirs.reset, ResetCode.LATE, "late")
            with pytest.raises(ChannelReset) as caught:
                await mine.send(bytes(2**20))
            return caught.value.reset_code, now() < 2, isinstance(pair.here, Session)

    assert sim(main) == (ResetCode.LATE, True, True)


def test_a_watchdog_outlives_its_sessions(sim):
    """Nothing of a session that has ended is watched, whatever was under way."""

    async def main():
        async with sim_pair() as pair:
            for number in range(5):
                mine, _ = await pair.open(f"under way {number}")
                mine.send_soon(bytes(2**20))
            parked = pair.watchdog.parked
        return parked >= 5, pair.watchdog.parked, isinstance(pair.watchdog, Watchdog)

    assert sim(main) == (True, 0, True)
