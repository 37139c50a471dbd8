"""Checks of links alone: what a session relies on before it says a word."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

import anyio
import anyio.lowlevel

from flare_async.limits import KIB, MIB
from flare_async.net.link import Link
from flare_async.testing.pair import PairMaker
from flare_async.testing.recorder import Recorder
from flare_async.wire.frames import (
    Ack,
    Data,
    Frame,
    Goodbye,
    Hello,
    Landed,
    Open,
    Ping,
    Pong,
    Reset,
)

__all__ = ["HELLO", "LINK_CHECKS", "bulk", "fill", "sample"]

HELLO: Final = Hello(1, "peer", bytes(16), 0, b"", "test", 64 * KIB, MIB)
CONTROL: Final[tuple[Frame, ...]] = (
    HELLO,
    Open(1, "topic", b"header", 1000, True, True),
    Ack(1, 7, 1007),
    Ping(5),
    Pong(6),
    Reset(1, 5, "gone"),
    Goodbye(0, "done"),
)
MOST_FRAMES: Final = 512  # of 256 KiB: more than any system keeps for a peer that does not read


def sample(size: int, seed: int = 0) -> bytes:
    """Return bytes in which no part can be taken for another one."""
    return random.Random(f"{seed}:{size}").randbytes(size)


def bulk(link: Link, data: bytes, start: int = 0) -> list[Data]:
    """Return frames with all of ``data``, each of a length that suits the link."""
    size = min(link.frame_bytes, 256 * KIB)
    view = memoryview(data)
    return [Data(1, start + at, view[at : at + size]) for at in range(0, len(data), size)]


async def check_frames_arrive_as_they_were_sent(make: PairMaker) -> None:
    """Every kind of frame arrives, in order and equal, in both directions."""
    async with make() as ends:
        recorders = [Recorder(), Recorder()]
        for link, recorder in zip(ends, recorders, strict=True):
            link.start(recorder)
        for link in ends:
            link.send_soon(CONTROL)
        for recorder in recorders:
            await recorder.until_frames(len(CONTROL))
            _expect(recorder.frames, CONTROL)


async def check_what_came_before_start_is_delivered(make: PairMaker) -> None:
    """A session that starts late misses nothing, and learns of an end that came meanwhile."""
    async with make() as (here, there):
        here.start(Recorder())
        here.send_soon(CONTROL)
        recorder = Recorder()
        async with anyio.create_task_group() as group:
            group.start_soon(here.aclose)
            for _ in range(10):
                await anyio.lowlevel.checkpoint()
            there.start(recorder)
            await recorder.until_lost()
        _expect(recorder.frames, CONTROL)
        assert recorder.lost_with == [None], f"an orderly end was told as {recorder.lost_with}"


async def check_close_delivers_what_is_pending(make: PairMaker) -> None:
    """``aclose`` loses no byte, however full the write buffer is."""
    data = sample(4 * MIB)
    async with make() as (here, there):
        recorder = Recorder()
        there.start(recorder)
        here.start(Recorder())
        here.send_soon([HELLO, *bulk(here, data)])
        await here.aclose()
        await recorder.until_lost()
        assert recorder.payload == data, f"{len(recorder.payload)} of {len(data)} bytes came"
        assert recorder.lost_with == [None], f"an orderly end was told as {recorder.lost_with}"


async def check_close_delivers_past_a_peer_that_writes(make: PairMaker) -> None:
    """What was sent before the close is read even by a peer that is writing and reads later."""
    data = sample(64 * KIB)
    async with make() as (here, there):
        await fill(there)
        here.start(Recorder())
        here.send_soon([HELLO, *bulk(here, data), Goodbye(0, "done")])
        recorder = Recorder()
        async with anyio.create_task_group() as group:
            group.start_soon(here.aclose)
            for _ in range(50):
                await anyio.lowlevel.checkpoint()
            there.start(recorder)
            await recorder.until_lost()
        assert recorder.payload == data, f"{len(recorder.payload)} of {len(data)} bytes came"
        assert recorder.frames[-1] == Goodbye(0, "done"), f"{recorder.frames[-1]} came last"


async def check_each_end_learns_the_end_once(make: PairMaker) -> None:
    """``abort``, twice and from both ends, is told exactly once to each."""
    async with make() as (here, there):
        mine, theirs = Recorder(), Recorder()
        here.start(mine)
        there.start(theirs)
        here.abort()
        here.abort()
        await theirs.until_lost()
        await mine.until_lost()
        there.abort()
        await anyio.lowlevel.checkpoint()
        counts = len(mine.lost_with), len(theirs.lost_with)
        assert counts == (1, 1), f"the end was told {counts} times"


async def check_sending_on_an_ended_link_is_harmless(make: PairMaker) -> None:
    """Frames are dropped, closing again returns, nothing is pending and nobody waits."""
    async with make() as (here, there):
        theirs = Recorder()
        here.start(Recorder())
        there.start(theirs)
        here.abort()
        await theirs.until_lost()
        for link in (here, there):
            link.send_soon(CONTROL)
            await link.wait_writable()
            await link.aclose()
            link.abort()
            assert link.pending == 0, f"{link.pending} bytes are pending on an ended link"


async def check_who_waits_for_room_is_woken_by_the_end(make: PairMaker) -> None:
    """``wait_writable`` returns when the link ends, to who waits and to who comes later."""
    async with make() as (here, _):
        here.start(Recorder())
        await fill(here)
        async with anyio.create_task_group() as group:
            group.start_soon(here.wait_writable)
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
            here.abort()
        await here.wait_writable()


async def check_a_wait_for_room_gives_way(make: PairMaker) -> None:
    """A link tells that it is full as soon as it is, and waiting for it gives the loop a turn."""
    async with make() as (here, _):
        here.start(Recorder())
        data = sample(4 * MIB)
        while here.writable and not here.by_reference:
            here.send_soon(bulk(here, data))  # with no turn of the loop between
            assert here.pending <= 8 * len(data), f"{here!r} is writable with {here.pending} bytes"
        if here.writable:
            return
        waiting = here.wait_writable()
        try:
            waiting.send(None)
        except StopIteration:
            raise AssertionError(f"the wait for {here!r} returned while it was full") from None
        finally:
            waiting.close()


async def check_a_reader_makes_room(make: PairMaker) -> None:
    """A link that was full becomes writable when the other end reads; nothing is lost."""
    async with make() as (here, there):
        here.start(Recorder())
        sent = await fill(here)
        recorder = Recorder()
        there.start(recorder)
        await here.wait_writable()
        assert here.writable, "the wait for room returned before there was any"
        await here.aclose()
        await recorder.until_lost()
        assert len(recorder.payload) == sent, f"{len(recorder.payload)} of {sent} bytes came"


async def check_payload_lands_where_the_session_says(make: PairMaker) -> None:
    """Bytes go to the memory that the receiver lends; by reference the sender's object comes."""
    data = sample(MIB + 1)
    memory = bytearray(len(data))
    async with make() as (here, there):
        recorder = Recorder(memory)
        there.start(recorder)
        here.start(Recorder())
        frames = bulk(here, data)
        here.send_soon([HELLO, *frames])
        await here.aclose()
        await recorder.until_lost()
        if there.by_reference:
            _expect(recorder.frames, (HELLO, *frames))
            return
        landed = sum(frame.length for frame in recorder.frames if isinstance(frame, Landed))
        assert landed == len(data), f"{landed} of {len(data)} bytes landed"
        assert memory == data, "other bytes landed than were sent"


async def fill(link: Link) -> int:
    """Send until the link is full, and once more; return the bytes. Some links are never full."""
    link.send_soon([HELLO])
    piece, sent = sample(256 * KIB), 0
    for _ in range(MOST_FRAMES):
        if not link.writable or (link.by_reference and sent):
            break
        link.send_soon(bulk(link, piece, sent))
        sent += len(piece)
        await anyio.lowlevel.checkpoint()
    else:
        raise AssertionError(f"{link!r} took {sent} bytes that nobody reads")
    return sent


def _expect(found: Sequence[Frame | Landed], wanted: Sequence[Frame]) -> None:
    assert list(found) == list(wanted), f"{found} arrived, {wanted} was sent"


LINK_CHECKS: Final = (
    check_frames_arrive_as_they_were_sent,
    check_what_came_before_start_is_delivered,
    check_close_delivers_what_is_pending,
    check_close_delivers_past_a_peer_that_writes,
    check_each_end_learns_the_end_once,
    check_sending_on_an_ended_link_is_harmless,
    check_who_waits_for_room_is_woken_by_the_end,
    check_a_wait_for_room_gives_way,
    check_a_reader_makes_room,
    check_payload_lands_where_the_session_says,
)
