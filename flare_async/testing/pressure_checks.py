"""Checks of links under pressure: a reader that pauses, an end in the middle of writing, crumbs."""

from __future__ import annotations

from typing import Final

import anyio
import anyio.lowlevel

from flare_async.limits import KIB
from flare_async.testing.link_checks import HELLO, bulk, fill, sample
from flare_async.testing.pair import PairMaker
from flare_async.testing.recorder import Recorder
from flare_async.wire.frames import Ack, Data, Ping

__all__ = ["PRESSURE_CHECKS"]

CRUMBS: Final = 2000
SIZES: Final = (1, 2, 23, 24, 25, 63, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1)


async def check_a_paused_reader_is_felt(make: PairMaker) -> None:
    """While nobody reads, a full link is not writable and says how much waits."""
    async with make() as (here, _):
        here.start(Recorder())
        await fill(here)
        if here.by_reference:  # credit bounds it, not a buffer
            return
        assert not here.writable, "a link that nobody reads stays writable"
        assert here.pending > 0, "a link that is not writable has nothing pending"


async def check_crumbs_arrive_in_order(make: PairMaker) -> None:
    """Thousands of short frames, handed over one by one, are neither lost nor merged."""
    frames = [Data(1, at, b"%c" % (at % 256)) for at in range(CRUMBS)]
    async with make() as (here, there):
        recorder = Recorder()
        there.start(recorder)
        here.start(Recorder())
        here.send_soon([HELLO])
        for at, frame in enumerate(frames):
            here.send_soon([frame, Ack(3, at, at)])
            await here.wait_writable()
        await recorder.until_frames(1 + 2 * CRUMBS)
        assert recorder.frames[1::2] == frames, "short data frames came otherwise than sent"
        acks = [frame for frame in recorder.frames if isinstance(frame, Ack)]
        assert acks == [Ack(3, at, at) for at in range(CRUMBS)], "acks came otherwise than sent"


async def check_odd_lengths_keep_their_frames_apart(make: PairMaker) -> None:
    """Payloads around the sizes of heads and pieces arrive whole, each before what follows it."""
    async with make() as (here, there):
        recorder = Recorder()
        there.start(recorder)
        here.start(Recorder())
        here.send_soon([HELLO])
        offset = 0
        for size in SIZES:
            here.send_soon([Data(1, offset, sample(size)), Ping(size)])
            offset += size
            await here.wait_writable()
        await here.aclose()
        await recorder.until_lost()
        pings = [frame.nonce for frame in recorder.frames if isinstance(frame, Ping)]
        assert recorder.payload == b"".join(sample(size) for size in SIZES), "other bytes came"
        assert pings == list(SIZES), f"{pings} came, {SIZES} was sent"


async def check_an_abort_ends_a_peer_that_writes(make: PairMaker) -> None:
    """The writer learns it once, nobody waits for room any more, and nothing stays pending."""
    async with make() as (here, there):
        mine, theirs = Recorder(), Recorder()
        here.start(mine)
        there.start(theirs)
        there.send_soon([HELLO, *bulk(there, sample(1024 * KIB))])
        async with anyio.create_task_group() as group:
            group.start_soon(there.wait_writable)
            here.abort()
            await theirs.until_lost()
        there.send_soon(bulk(there, sample(64 * KIB)))
        await there.wait_writable()
        await anyio.lowlevel.checkpoint()
        counts = len(mine.lost_with), len(theirs.lost_with)
        assert counts == (1, 1), f"the end was told {counts} times"
        assert there.pending == 0, f"{there.pending} bytes are pending on an ended link"


async def check_both_ends_may_close_at_once(make: PairMaker) -> None:
    """Two half-closed ends do not wait for each other; each is told the end once."""
    async with make() as ends:
        recorders = [Recorder(), Recorder()]
        for link, recorder in zip(ends, recorders, strict=True):
            link.start(recorder)
            link.send_soon([HELLO])
        async with anyio.create_task_group() as group:
            for link in ends:
                group.start_soon(link.aclose)
        for link in ends:
            await link.aclose()
        counts = [len(recorder.lost_with) for recorder in recorders]
        assert counts == [1, 1], f"the end was told {counts} times"


PRESSURE_CHECKS: Final = (
    check_a_paused_reader_is_felt,
    check_crumbs_arrive_in_order,
    check_odd_lengths_keep_their_frames_apart,
    check_an_abort_ends_a_peer_that_writes,
    check_both_ends_may_close_at_once,
)
