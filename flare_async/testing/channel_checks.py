"""Checks of channels over a transport: content, credit, turns and lanes, by counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Final

import anyio

from flare_async.limits import KIB, MIB, Limits
from flare_async.net.channel import Channel
from flare_async.net.endpoint import FIRST_WINDOW
from flare_async.net.session import Session
from flare_async.testing.link_checks import sample
from flare_async.testing.pair import ECHO_TOPIC, Pair, PairMaker, connected
from flare_async.testing.tap import Passed
from flare_async.wire.frames import Data, Open
from flare_async.wire.session import OpenOptions

__all__ = ["CHANNEL_CHECKS", "collect"]

SMALL: Final = (0, 1, 4095, 4096, 4097)
MIDDLE: Final = (64 * KIB - 1, 64 * KIB, 64 * KIB + 1, MIB - 1, MIB, MIB + 1)
LARGE: Final = 9 * MIB
PULL_TOPIC: Final = "pull"
PULL: Final = OpenOptions(end=True, leased=True)


async def collect(channel: Channel) -> bytes:
    """Return everything that the peer sends until it ends its direction."""
    return b"".join([bytes(chunk) async for chunk in channel])


async def concurrently(*functions: Callable[[], Coroutine[object, object, None]]) -> None:
    """Run functions at once; the first failure ends the others."""
    async with anyio.create_task_group() as group:
        for function in functions:
            group.start_soon(function)


async def check_channels_open_both_ways(make: PairMaker) -> None:
    """Topic and header arrive, ids differ, and each side knows the other's name."""
    async with connected(make) as pair:
        for opener, acceptor in ((pair.here, pair.there), (pair.there, pair.here)):
            mine = opener.open("a topic", b"a header")
            theirs = await anext(acceptor)
            assert (theirs.topic, theirs.header, theirs.id) == ("a topic", b"a header", mine.id)
        assert (pair.here.peer, pair.there.peer) == ("acceptor", "connector")


async def check_small_and_middle_sizes_arrive_intact(make: PairMaker) -> None:
    """Both directions of a channel at once carry exactly the bytes that were sent."""
    async with connected(make) as pair:
        for size in (*SMALL, *MIDDLE):
            await _exchange(pair, size)


async def check_large_streams_pass_each_other(make: PairMaker) -> None:
    """9 MiB each way at once on one channel: nobody's reading waits for anybody's writing."""
    async with connected(make) as pair:
        await _exchange(pair, LARGE)


async def check_leased_bytes_land_in_place(make: PairMaker) -> None:
    """Bytes of any size land in the memory that was lent, and the trailer follows them."""
    async with connected(make) as pair:
        pair.there.serve(PULL_TOPIC, _answer_pull)
        for size in (*SMALL, *MIDDLE):
            await _pull(pair.here, size)


async def check_large_leased_streams_pass_each_other(make: PairMaker) -> None:
    """9 MiB land at each side while it sends as much."""
    async with connected(make) as pair:
        for session in (pair.here, pair.there):
            session.serve(PULL_TOPIC, _answer_pull)
        await concurrently(partial(_pull, pair.here, LARGE), partial(_pull, pair.there, LARGE))


async def check_many_channels_keep_apart(make: PairMaker) -> None:
    """A hundred channels at once: each gets its own bytes and none of another."""
    async with connected(make) as pair:
        pairs = [await pair.open(f"stream {number}") for number in range(100)]

        async def carry(number: int) -> None:
            mine, theirs = pairs[number]
            data = sample(20_000 + number, number)
            await concurrently(partial(_speak, mine, data), partial(_hear, theirs, data))
            theirs.end()

        await concurrently(*(partial(carry, number) for number in range(100)))
        await pair.round_trip()
        assert not pair.left(), f"{pair.left()} are left"


async def check_channels_take_turns(make: PairMaker) -> None:
    """While several channels have something to send, none is ahead by more than a frame."""
    size = 2 * MIB
    async with connected(make) as pair:
        memories = [bytearray(size) for _ in range(6)]
        mine = []
        for memory in memories:
            mine.append(pair.here.open("bulk", options=PULL))
            mine[-1].lease(memoryview(memory))
        theirs = [await anext(pair.there) for _ in memories]
        pair.far.hold()
        start = len(pair.far.passed)
        for channel in theirs:
            channel.send_soon(sample(size, channel.id))
            channel.end()
        pair.far.release()
        for channel in mine:
            await channel.landed()
        _expect_turns([frame for frame in pair.far.passed[start:] if frame.sent], size)
        for channel, memory in zip(mine, memories, strict=True):
            assert memory == sample(size, channel.id), f"{channel!r} got other bytes"


async def check_a_reader_that_stops_holds_only_its_channel(make: PairMaker) -> None:
    """What nobody reads is bounded by its own credit, and all other channels finish."""
    async with connected(make, Limits(window_bytes=MIB)) as pair:
        mine, stuck = await pair.open("stuck")
        data = sample(3 * MIB)
        mine.send_soon(data)
        mine.end()
        for _ in range(3):
            await _exchange(pair, 2 * MIB)
        await pair.round_trip()
        _expect_buffered(stuck, FIRST_WINDOW)
        heard = bytearray()
        while len(heard) < len(data):
            heard += await stuck.receive()
            if len(heard) < len(data):
                _expect_buffered(stuck, MIB)
        assert heard == data, "a stream that had waited came with other bytes"


async def check_control_leaves_before_bulk(make: PairMaker) -> None:
    """What is queued behind bulk and is urgent leaves before the first byte of it."""
    async with connected(make) as pair:
        pairs = [await pair.open("bulk") for _ in range(3)]
        pair.far.hold()
        start = len(pair.far.passed)
        for _, theirs in pairs:
            theirs.send_soon(bytes(FIRST_WINDOW))
        pair.there.open("later", b"")
        urgent = pair.there.open("urgent", b"", OpenOptions(urgent=True))
        urgent.send_soon(b"now")
        pair.far.release()
        for mine, _ in pairs:
            await mine.receive()
        left = [frame for frame in pair.far.passed[start:] if frame.sent]
        kinds = [(frame.kind, frame.channel == urgent.id) for frame in left[:3]]
        assert kinds == [(Open, False), (Open, True), (Data, True)], f"first left {left[:4]}"


async def check_an_answer_passes_bulk(make: PairMaker) -> None:
    """Between a question's arrival and its answer's departure at most a frame's bytes leave."""
    async with connected(make) as pair:
        pair.there.serve(PULL_TOPIC, _answer_pull)
        pulls = [partial(_pull, pair.here, 4 * MIB, seed) for seed in range(4)]
        answers: list[int] = []

        async def ask() -> None:
            for _ in range(6):
                question = pair.here.open(ECHO_TOPIC, b"?", OpenOptions(urgent=True, end=True))
                await collect(question)
                answers.append(question.id)

        await concurrently(*pulls, ask)
        # The first question comes with the pulls, in one read: they were asked before it.
        between = [_bulk_between(pair.far.passed, number) for number in answers[1:]]
        most = max(256 * KIB, pair.far.frame_bytes)  # one full frame, or shorter ones in its place
        assert max(between) <= most, f"{between} bulk bytes left before the answers"


async def check_statistics_count_bytes(make: PairMaker) -> None:
    """Sent, received, consumed and acknowledged agree at both ends."""
    async with connected(make) as pair:
        mine, theirs = await pair.open("counted")
        await mine.send(bytes(1000))
        await pair.round_trip()
        before = theirs.statistics()
        got = 0
        while got < 1000:
            got += len(await theirs.receive())
        await pair.round_trip()
        sender, receiver = mine.statistics(), theirs.statistics()
        assert (before.received, before.consumed) == (1000, 0), f"{before} before reading"
        assert (receiver.received, receiver.consumed) == (1000, 1000), f"{receiver} after it"
        assert (sender.sent, sender.acknowledged, sender.unsent) == (1000, 1000, 0), f"{sender}"


async def _exchange(pair: Pair, size: int) -> None:
    mine, theirs = await pair.open("exchange")
    going, coming = sample(size, 1), sample(size, 2)
    await concurrently(
        partial(_speak, mine, going),
        partial(_speak, theirs, coming),
        partial(_hear, mine, coming),
        partial(_hear, theirs, going),
    )


async def _speak(channel: Channel, data: bytes) -> None:
    await channel.send(data)
    channel.end()


async def _hear(channel: Channel, data: bytes) -> None:
    heard = await collect(channel)
    assert heard == data, (
        f"{channel!r}: {len(heard)} bytes came, not the {len(data)} that were sent"
    )


async def _pull(reader: Session, size: int, seed: int = 0) -> None:
    memory = bytearray(size)
    channel = reader.open(PULL_TOPIC, f"{size} {seed}".encode(), PULL)
    channel.lease(memoryview(memory))
    trailer = await channel.landed()
    assert trailer == b"trailer", f"{channel!r}: the trailer is {trailer!r}"
    assert memory == sample(size, seed), f"{channel!r}: other bytes landed than were sent"


def _answer_pull(channel: Channel) -> None:
    size, seed = channel.header.split()
    channel.send_soon(sample(int(size), int(seed)))
    channel.end(b"trailer")


def _expect_turns(left: list[Passed], size: int) -> None:
    """Check what is sent of each channel after every frame, while all of them have more."""
    totals: Counter[int] = Counter()
    bulk = [frame for frame in left if frame.is_payload]
    most = max(frame.nbytes for frame in bulk)
    channels = {frame.channel for frame in bulk}
    for frame in bulk:
        totals[frame.channel] += frame.nbytes
        behind = min(totals[channel] for channel in channels)
        ahead = totals[frame.channel] - behind
        assert ahead <= most, f"channel {frame.channel} is {ahead} bytes ahead, a frame is {most}"
    assert set(totals.values()) == {size}, f"{totals} bytes left, {size} of each were queued"


def _expect_buffered(channel: Channel, most: int) -> None:
    numbers = channel.statistics()
    waiting = numbers.received - numbers.consumed
    assert waiting <= most, f"{channel!r}: {waiting} bytes wait, {most} may"


def _bulk_between(passed: list[Passed], channel: int) -> int:
    """Count the bytes that left between an Open's arrival and the first answer."""
    asked = next(
        at for at, frame in enumerate(passed) if not frame.sent and frame.channel == channel
    )
    count = 0
    for frame in passed[asked:]:
        if frame.sent and frame.channel == channel and frame.is_payload:
            break
        count += frame.nbytes if frame.sent else 0
    return count


CHANNEL_CHECKS: Final = (
    check_channels_open_both_ways,
    check_small_and_middle_sizes_arrive_intact,
    check_large_streams_pass_each_other,
    check_leased_bytes_land_in_place,
    check_large_leased_streams_pass_each_other,
    check_many_channels_keep_apart,
    check_channels_take_turns,
    check_a_reader_that_stops_holds_only_its_channel,
    check_control_leaves_before_bulk,
    check_an_answer_passes_bulk,
    check_statistics_count_bytes,
)
