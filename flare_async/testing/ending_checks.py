"""Checks of endings over a transport: streams, channels, sessions and links."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from flare_async.errors import ChannelReset, FlareError, LinkLost
from flare_async.limits import MIB, Limits
from flare_async.net.channel import Channel
from flare_async.net.session import Session
from flare_async.testing.channel_checks import collect
from flare_async.testing.link_checks import sample
from flare_async.testing.pair import Pair, PairMaker, connected
from flare_async.wire.frames import TRAILER_BYTES, ResetCode
from flare_async.wire.session import OpenOptions

__all__ = ["ENDING_CHECKS"]

WORDS: Final = sample(5000)


async def check_an_end_carries_its_trailer(make: PairMaker) -> None:
    """Data, then the end, then its trailer; each direction on its own, empty ones too."""
    async with connected(make) as pair:
        for data, trailer in ((WORDS, bytes(TRAILER_BYTES)), (b"", b"empty"), (b"x", b"")):
            mine, theirs = await pair.open("ends")
            mine.send_soon(data)
            mine.end(trailer)
            assert (await collect(theirs), theirs.trailer) == (data, trailer)
            theirs.send_soon(trailer)
            theirs.end(b"back")
            assert (await collect(mine), mine.trailer) == (trailer, b"back")
        await pair.round_trip()
        assert not pair.left(), f"{pair.left()} are left"


async def check_either_side_resets_at_every_stage(make: PairMaker) -> None:
    """Both ends fail with the code and the message, and the session goes on without a trace."""
    async with connected(make) as pair:
        for stage in STAGES:
            for resets_here in (True, False):
                ends = await pair.open("reset")
                await stage(*ends)
                resetting, other = ends if resets_here else ends[::-1]
                resetting.reset(ResetCode.LATE, "too late")
                await pair.round_trip()
                errors = [failure_to_send(end) for end in ends]
                if stage is not _half_closed:
                    errors.append(await failure_to_receive(other))
                for error in errors:
                    _expect_reset(error, f"{stage.__name__}, by the opener: {resets_here}")
                assert not pair.left(), f"{stage.__name__}: {pair.left()} are left"


async def check_a_reset_revokes_the_lease(make: PairMaker) -> None:
    """After a reset nothing is written into the memory that was lent."""
    size = 2 * MIB
    async with connected(make) as pair:
        memory = bytearray(size)
        mine = pair.here.open("pull", options=OpenOptions(leased=True))
        landed = anyio.Event()
        mine.lease(memoryview(memory), lambda _offset, _length: landed.set())
        theirs = await anext(pair.there)
        theirs.send_soon(b"\x01" * size)
        await landed.wait()
        mine.reset(ResetCode.CANCELLED, "enough")
        memory[:] = bytes(size)
        await failure_to_receive(theirs)
        await pair.round_trip()
        assert not any(memory), f"{size - memory.count(0)} bytes were written after the reset"


async def check_more_than_may_be_open_is_refused(make: PairMaker) -> None:
    """A peer that opens too many channels is refused the rest; the others are not harmed."""
    async with connected(make, acceptor=Limits(channels=4)) as pair:
        mine = [pair.here.open(f"channel {number}", WORDS) for number in range(7)]
        errors = [await failure_to_receive(channel) for channel in mine[4:]]
        codes = [error.reset_code for error in errors if isinstance(error, ChannelReset)]
        assert codes == [ResetCode.REFUSED] * 3, f"{errors}"
        for channel in mine[:4]:
            theirs = await anext(pair.there)
            assert (theirs.id, theirs.header) == (channel.id, WORDS)
            theirs.send_soon(WORDS)
            theirs.end()
            channel.end()
            assert await collect(channel) == WORDS
            await collect(theirs)


async def check_goodbye_ends_both_sessions_in_order(make: PairMaker) -> None:
    """The side that is left sees an end without an error; its channels fail, typed."""
    errors: list[FlareError] = []

    async def be_left(pair: Pair, channel: Channel) -> None:
        errors.append(await failure_to_receive(channel))
        rest = [channel async for channel in pair.there]
        assert not rest, f"{rest} came from nowhere"
        await pair.there.__aexit__(None, None, None)

    async with connected(make) as pair:
        _, theirs = await pair.open("half-way")
        async with anyio.create_task_group() as group:
            group.start_soon(be_left, pair, theirs)
            await pair.here.__aexit__(None, None, None)
        assert isinstance(errors[0], LinkLost), f"{errors[0]!r} is no LinkLost"
        assert pair.there.error is None, f"a goodbye was taken for {pair.there.error!r}"


async def check_goodbye_is_heard_through_bulk(make: PairMaker) -> None:
    """A side that leaves while both send is still known to have left in order."""
    async with connected(make) as pair:
        mine, theirs = await pair.open("bulk")
        async with anyio.create_task_group() as group:
            group.start_soon(failure_to_receive, theirs)
            for channel in (mine, theirs):
                channel.send_soon(bytes(16 * MIB))
            while mine.statistics().received < 2 * MIB:
                await mine.receive()
            await pair.here.__aexit__(None, None, None)
            await pair.there.__aexit__(None, None, None)
        assert pair.there.error is None, f"a goodbye was taken for {pair.there.error!r}"


async def check_abort_fails_the_peers_channels(make: PairMaker) -> None:
    """A link that breaks is a LinkLost at every channel and session on it, and nothing hangs."""
    async with connected(make) as pair:
        ends = [*await pair.open("one"), *await pair.open("two")]
        pair.near.abort()
        errors = [await failure_to_receive(channel) for channel in ends]
        errors += [failure_to_send(channel) for channel in ends]
        errors += [_failure_to_open(session) for session in (pair.here, pair.there)]
        errors += [error for error in (pair.here.error, pair.there.error) if error]
        kinds = [type(error) for error in errors]
        assert kinds == [LinkLost] * 12, f"{errors}"


async def check_what_came_before_the_end_is_still_read(make: PairMaker) -> None:
    """Bytes that had arrived when the link was lost are received before the error."""
    async with connected(make) as pair:
        mine, theirs = await pair.open("last words")
        mine.send_soon(WORDS)
        await pair.round_trip()
        pair.far.abort()
        heard = bytearray()
        while len(heard) < len(WORDS):
            heard += await theirs.receive()
        assert heard == WORDS, "other bytes came than were sent"
        error = await failure_to_receive(theirs)
        assert isinstance(error, LinkLost), f"{error!r} is no LinkLost"


async def check_leaving_returns_credit_and_watches(make: PairMaker) -> None:
    """After both sides left nothing is watched, and no channel is left that holds credit."""
    async with connected(make) as pair:
        for number in range(3):
            mine, _ = await pair.open(f"left {number}")
            mine.send_soon(bytes(MIB))
        await pair.here.__aexit__(None, None, None)
        await pair.there.__aexit__(None, None, None)
        left = len(pair.here.channels) + len(pair.there.channels)
        assert (left, pair.watchdog.parked) == (0, 0)


async def _opened(_mine: Channel, _theirs: Channel) -> None:
    """Nothing was sent."""


async def _sending(mine: Channel, _theirs: Channel) -> None:
    mine.send_soon(sample(MIB))


async def _unread(mine: Channel, theirs: Channel) -> None:
    await mine.send(WORDS)
    await theirs.send(WORDS)


async def _reading(mine: Channel, theirs: Channel) -> None:
    mine.send_soon(sample(MIB))
    await theirs.receive()


async def _leased(mine: Channel, theirs: Channel) -> None:
    mine.lease(memoryview(bytearray(MIB)))
    theirs.send_soon(sample(MIB))


async def _half_closed(mine: Channel, theirs: Channel) -> None:
    theirs.send_soon(WORDS)
    theirs.end()
    await collect(mine)


Stage = Callable[[Channel, Channel], Awaitable[None]]
STAGES: Final[tuple[Stage, ...]] = (
    _opened,
    _sending,
    _unread,
    _reading,
    _leased,
    _half_closed,
)


def failure_to_send(channel: Channel) -> FlareError:
    """Return what sending fails with."""
    try:
        channel.send_soon(b"x")
    except FlareError as error:
        return error
    raise AssertionError(f"{channel!r} still sends")


async def failure_to_receive(channel: Channel) -> FlareError:
    """Return what receiving fails with, after everything that had come before."""
    try:
        while True:
            await channel.receive()
    except FlareError as error:
        return error
    except anyio.EndOfStream:
        raise AssertionError(f"{channel!r} has ended in order") from None


def _failure_to_open(session: Session) -> FlareError:
    try:
        session.open("late")
    except FlareError as error:
        return error
    raise AssertionError(f"{session!r} still opens channels")


def _expect_reset(error: FlareError, where: str) -> None:
    assert isinstance(error, ChannelReset), f"{where}: {error!r} is no ChannelReset"
    found = error.reset_code, error.message
    assert found == (ResetCode.LATE, "too late"), f"{where}: {error!r}"


ENDING_CHECKS: Final = (
    check_an_end_carries_its_trailer,
    check_either_side_resets_at_every_stage,
    check_a_reset_revokes_the_lease,
    check_more_than_may_be_open_is_refused,
    check_goodbye_ends_both_sessions_in_order,
    check_goodbye_is_heard_through_bulk,
    check_abort_fails_the_peers_channels,
    check_what_came_before_the_end_is_still_read,
    check_leaving_returns_credit_and_watches,
)
