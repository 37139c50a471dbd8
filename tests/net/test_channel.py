"""Channels in virtual time: who stalls is found on time, who is slow is left alone."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

import anyio
import pytest

from flare_async.errors import AckStalled, ChannelReset, LocalProtocolError, RemoteProtocolError
from flare_async.limits import KIB, MIB, Limits
from flare_async.net.endpoint import FIRST_WINDOW
from flare_async.testing.pair import connected
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import OpenOptions
from tests.net.peers import LIMITS, PATIENCE, memory_links, now, sim_links, sim_pair

SLACK = 0.25


async def failure(awaitable):
    """Return the AckStalled that an awaitable raises."""
    with pytest.raises(AckStalled) as caught:
        await awaitable
    return caught.value


def test_a_reader_that_stops_raises_ack_stalled_in_time(sim):
    """The error comes within [T, T + 0.25 s] and names peer, topic, bytes and idle seconds."""

    async def main():
        async with sim_pair() as pair:
            mine, _ = await pair.open("model")
            start = now()
            error = await failure(mine.send(bytes(MIB)))
            return now() - start, error

    waited, error = sim(main)
    assert PATIENCE <= waited <= PATIENCE + SLACK
    assert (error.peer, error.topic, error.sent, error.acknowledged) == (
        "acceptor",
        "model",
        FIRST_WINDOW,
        0,
    )
    assert PATIENCE <= error.idle <= PATIENCE + SLACK


def test_the_stalled_side_is_told(sim):
    """The reader's end fails with the reset's code, and both sessions have no channel left."""

    async def main():
        async with sim_pair() as pair:
            mine, theirs = await pair.open("model")
            await failure(mine.send(bytes(MIB)))
            await pair.round_trip()
            await theirs.receive()
            with pytest.raises(ChannelReset) as caught:
                await theirs.receive()
            return caught.value.reset_code, pair.left(), pair.watchdog.parked

    assert sim(main) == (ResetCode.STALLED, [], 0)


def test_a_reader_that_ends_nothing_after_the_end_stalls(sim):
    """The end is owed an acknowledgement even when every byte was taken by the link."""

    async def main():
        async with sim_pair() as pair:
            mine, _ = await pair.open("model")
            mine.send_soon(b"few bytes")
            mine.end()
            await asyncio.sleep(PATIENCE + SLACK)
            return mine.failed

    assert isinstance(sim(main), AckStalled)


def test_a_slow_reader_is_never_reset(sim):
    """One chunk every 0.9 T is progress, however long the whole takes."""

    async def main():
        async with sim_pair() as pair:
            mine, theirs = await pair.open("model")
            heard = 0
            async with anyio.create_task_group() as group:
                group.start_soon(mine.send, bytes(512 * KIB))
                while heard < 512 * KIB:
                    await asyncio.sleep(0.9 * PATIENCE)
                    heard += len(await theirs.receive())
            return heard, now() > 5 * PATIENCE, mine.is_open

    assert sim(main) == (512 * KIB, True, True)


def test_a_message_that_is_not_read_is_no_stall(sim):
    """A trainer may think for hours about the last thing it was told."""

    async def main():
        async with sim_pair() as pair:
            mine, theirs = await pair.open("control", OpenOptions(urgent=True))
            await mine.send(b"train")
            await asyncio.sleep(1000 * PATIENCE)
            return bytes(await theirs.receive()), mine.is_open

    assert sim(main) == (b"train", True)


def test_receiving_waits_for_a_silent_peer(sim):
    """``receive`` has no patience of its own; the heartbeat has."""

    async def main():
        async with sim_pair() as pair:
            mine, theirs = await pair.open("answers")
            asyncio.get_running_loop().call_later(100 * PATIENCE, theirs.send_soon, b"late")
            return bytes(await mine.receive()), now() >= 100 * PATIENCE

    assert sim(main) == (b"late", True)


@pytest.mark.parametrize("leased", [False, True])
def test_a_sender_that_stops_raises_ack_stalled_in_time(sim, leased):
    """Whoever waits for bytes that must move gives up T after the last one."""

    async def main():
        async with sim_pair() as pair:
            mine, theirs = await pair.open("model", OpenOptions(leased=leased))
            if leased:
                mine.lease(memoryview(bytearray(100)))
            asyncio.get_running_loop().call_later(5, theirs.send_soon, b"only this")
            if not leased:
                await mine.receive()
            start = now()
            error = await failure(mine.landed() if leased else mine.receive_moving())
            late = now() - start - (5 if leased else 0)
            return PATIENCE <= late <= PATIENCE + SLACK, error.sent, error.acknowledged

    assert sim(main) == (True, 9, 9)


def test_bytes_that_trickle_in_keep_a_lease_alive(sim):
    """A byte every 0.9 T lands in the end."""

    async def main():
        memory = bytearray(20)
        async with sim_pair() as pair:
            mine, theirs = await pair.open("model", OpenOptions(leased=True))
            mine.lease(memoryview(memory))

            async def trickle():
                for number in range(20):
                    theirs.send_soon(bytes([number]))
                    await asyncio.sleep(0.9 * PATIENCE)
                theirs.end()

            async with anyio.create_task_group() as group:
                group.start_soon(trickle)
                await mine.landed()
            return memory

    assert sim(main) == bytes(range(20))


def test_many_channels_on_a_slow_link_are_not_stalled(sim):
    """Who waits for its turn on a link that moves is owed nothing by the peer."""

    async def main():
        limits = Limits(stall_timeout=PATIENCE, window_bytes=MIB)
        async with sim_pair(limits, bandwidth=100_000.0) as pair:
            ends = [await pair.open(f"model {number}") for number in range(8)]

            async def read(channel):
                heard = 0
                async for chunk in channel:
                    heard += len(chunk)
                totals.append(heard)

            totals = []
            async with anyio.create_task_group() as group:
                for mine, theirs in ends:
                    group.start_soon(read, theirs)
                    mine.send_soon(bytes(600 * KIB))
                    mine.end()
            return totals

    assert sim(main) == [600 * KIB] * 8


def test_a_second_receiver_is_refused(sim):
    """One task receives at a time; the first one is not disturbed."""

    async def main():
        async with sim_pair() as pair, anyio.create_task_group() as group:
            mine, theirs = await pair.open("one")
            got = []

            async def first():
                got.append(bytes(await mine.receive()))

            group.start_soon(first)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            with pytest.raises(LocalProtocolError, match="already has a receiver"):
                await mine.receive()
            theirs.send_soon(b"for the first")
            await asyncio.sleep(1)
            return got

    assert sim(main) == [b"for the first"]


def test_sending_after_the_end_is_refused(sim):
    """The caller's mistake is a LocalProtocolError, and the channel lives on."""

    async def main():
        async with sim_pair() as pair:
            mine, theirs = await pair.open("ends")
            mine.end()
            for again in (partial(mine.send_soon, b"x"), mine.end):
                with pytest.raises(LocalProtocolError, match="has ended"):
                    again()
            await mine.send_eof()
            with pytest.raises(anyio.EndOfStream):
                await theirs.receive()
            return mine.is_open

    assert sim(main)


def test_a_lease_after_bytes_is_refused(sim):
    """Memory is lent before the first byte, or not at all."""

    async def main():
        async with sim_pair() as pair:
            mine, theirs = await pair.open("model")
            theirs.send_soon(b"too early")
            await pair.round_trip()
            with pytest.raises(LocalProtocolError, match="before it was leased"):
                mine.lease(memoryview(bytearray(9)))
            return bytes(await mine.receive())

    assert sim(main) == b"too early"


def test_more_than_was_lent_is_an_error_of_the_channel(sim):
    """A peer that sends more writes past no memory; it is reset, and the session goes on."""

    async def main():
        memory = bytearray(10)
        async with sim_pair() as pair:
            mine, theirs = await pair.open("model", OpenOptions(leased=True))
            mine.lease(memoryview(memory)[2:8])
            theirs.send_soon(b"\x01" * 100)
            with pytest.raises(RemoteProtocolError, match="too_long: acceptor model: more than 6"):
                await mine.landed()
            await pair.round_trip()
            return memory, mine._inbox, theirs.failed.reset_code, pair.left()

    lent = b"\x00\x00" + b"\x01" * 6 + b"\x00\x00"
    assert sim(main) == (lent, None, ResetCode.PROTOCOL, [])


@pytest.mark.parametrize("by_reference", [False, True])
def test_a_collecting_channel_holds_no_more_than_was_announced(sim, by_reference):
    """A sender without bounds is reset at the first byte too many; what came before is small."""

    async def flood(channel):
        while channel.is_open:
            with suppress(ChannelReset):
                await channel.send(bytes(64 * KIB))

    async def main():
        async with connected(memory_links if by_reference else sim_links(), LIMITS) as pair:
            mine, theirs = await pair.open("model", OpenOptions(leased=True, window=100 * KIB))
            mine.collect(100 * KIB)
            async with anyio.create_task_group() as group:
                group.start_soon(flood, theirs)
                with pytest.raises(RemoteProtocolError, match="more than 102400 bytes"):
                    await mine.landed()
            return sum(len(chunk) for chunk in mine.collected()), pair.here.ended

    kept, ended = sim(main)
    assert kept <= 100 * KIB
    assert not ended


def test_others_bytes_bear_with_a_channel_that_waits_for_its_turn(sim):
    """A frame of another channel that takes longer than the patience is no stall of this one."""

    async def main():
        async with sim_pair(bandwidth=10_000.0) as pair:
            bulk, sent = await pair.open("bulk", OpenOptions(leased=True))
            mine, theirs = await pair.open("mine", OpenOptions(leased=True))
            bulk.lease(memoryview(bytearray(600 * KIB)))
            mine.lease(memoryview(bytearray(5)))
            sent.send_soon(bytes(600 * KIB))
            await asyncio.sleep(0)
            theirs.send_soon(b"later")
            theirs.end()
            await mine.landed()
            return now() > 2 * PATIENCE

    assert sim(main)


def test_others_bytes_hide_a_channel_that_gets_none_for_a_while_only(sim):
    """After four patiences and four links' worth of others' bytes it is stalled all the same."""
    limits = Limits(stall_timeout=PATIENCE, window_bytes=MIB, link_bytes=MIB)

    async def main():
        async with sim_pair(limits, bandwidth=MIB) as pair:
            bulk, sent = await pair.open("bulk", OpenOptions(leased=True))
            start = now()
            mine, _ = await pair.open("mine", OpenOptions(leased=True))
            bulk.lease(memoryview(bytearray(60 * MIB)))
            mine.lease(memoryview(bytearray(5)))
            sent.send_soon(bytes(60 * MIB))
            await failure(mine.landed())
            return now() - start

    assert 4 * PATIENCE <= sim(main) <= 5 * PATIENCE + SLACK


def test_over_memory_the_very_objects_arrive():
    """Nothing is copied between two roles of one process."""

    async def main():
        async with connected(memory_links, LIMITS) as pair:
            mine, theirs = await pair.open("model")
            tensor = memoryview(bytearray(1000))
            mine.send_soon(tensor)
            return (await theirs.receive()).obj is tensor.obj

    assert asyncio.run(main())


def test_a_failed_channel_tells_its_owner_once(sim):
    """``on_failed`` and ``on_over`` are called when it fails and not when it is reset again."""

    async def main():
        async with sim_pair() as pair:
            mine, theirs = await pair.open("told")
            calls = []
            mine.on_failed = lambda: calls.append(1)
            mine.on_over = lambda channel: calls.append(channel is mine)
            theirs.reset(ResetCode.GONE, "gone")
            await pair.round_trip()
            mine.reset()
            await mine.aclose()
            return calls

    assert sim(main) == [1, True]


def test_a_finished_channel_tells_its_owner_once(sim):
    """``on_over`` is called at an orderly end, too, and ``on_failed`` is not."""

    async def main():
        async with sim_pair() as pair:
            mine, theirs = await pair.open("told", OpenOptions(end=True))
            calls = []
            theirs.on_failed = lambda: calls.append("failed")
            theirs.on_over = lambda channel: calls.append(channel is theirs)
            theirs.end()
            await mine.landed()
            await pair.round_trip()
            return calls, mine.is_open

    assert sim(main) == ([True], False)
