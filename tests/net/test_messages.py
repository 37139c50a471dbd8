"""Messages over a channel: whole, typed, bounded, and never half lost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import anyio
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flare_async.errors import ChannelReset, FlareError, RemoteProtocolError
from flare_async.limits import KIB, Limits
from flare_async.net.messages import LENGTH, Messages
from flare_async.testing.loop import run_sim
from flare_async.testing.pair import connected
from flare_async.wire.schema import Schema
from tests.net.peers import LIMITS, cancelled_at, memory_links, sim_pair


@dataclass(frozen=True, slots=True)
class Note:
    """A message."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Blob:
    """Another message."""

    data: bytes


SCHEMA = Schema((1, Note), (2, Blob))
MESSAGES = st.one_of(
    st.builds(Note, st.integers(-(2**63), 2**63 - 1), st.text(max_size=50)),
    st.builds(Blob, st.binary(max_size=2000)),
)


async def both_ends(pair):
    """Return the two ends of a message channel."""
    mine, theirs = await pair.open("messages")
    return Messages(mine, SCHEMA), Messages(theirs, SCHEMA)


async def heard_of(data):
    """Send raw bytes and the end; return the messages and the error at the other side."""
    async with connected(memory_links, LIMITS) as pair:
        mine, theirs = await pair.open("messages")
        mine.send_soon(data)
        mine.end()
        found, messages = [], Messages(theirs, SCHEMA)
        try:
            while True:
                found.append(await messages.receive())
        except (anyio.EndOfStream, FlareError) as error:
            theirs.reset()
            return found, error


@settings(max_examples=30, deadline=None)
@given(st.lists(MESSAGES, max_size=10))
def test_messages_arrive_as_they_were_sent(messages):
    """Any messages, in order, whatever they hold."""

    async def main():
        async with sim_pair() as pair:
            mine, theirs = await both_ends(pair)
            for message in messages:
                mine.post(message)
            mine.channel.end()
            return [await theirs.receive() for _ in messages]

    assert run_sim(main) == messages


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
@example(LENGTH.pack(3) + b"\x93\x01")
@example(LENGTH.pack(0))
@example(b"\x00\x00")
def test_garbage_is_a_typed_error_or_the_end(data):
    """No bytes raise anything else."""
    _, error = asyncio.run(heard_of(data))
    assert isinstance(error, RemoteProtocolError | anyio.EndOfStream)


def test_a_message_that_ends_early_is_truncated():
    """The end between two messages is orderly, inside of one it is an error."""
    body = SCHEMA.encode(Note(7, "seven"))
    whole = LENGTH.pack(len(body)) + body
    found, error = asyncio.run(heard_of(whole + whole[:-1]))
    assert found == [Note(7, "seven")]
    assert isinstance(error, RemoteProtocolError)
    assert error.reason == "truncated"
    assert isinstance(asyncio.run(heard_of(whole))[1], anyio.EndOfStream)


def test_a_length_that_is_too_long_is_refused_at_once():
    """Nothing is collected for a message beyond ``control_bytes``."""
    _, error = asyncio.run(heard_of(LENGTH.pack(LIMITS.control_bytes + 1) + b"x"))
    assert isinstance(error, RemoteProtocolError)
    assert error.reason == "message_too_long"


def test_the_longest_message_fits(sim):
    """Exactly ``control_bytes`` are accepted."""

    async def main():
        async with sim_pair() as pair:
            mine, theirs = await both_ends(pair)
            blob = Blob(
                bytes(LIMITS.control_bytes - len(SCHEMA.encode(Blob(bytes(2**15)))) + 2**15)
            )
            async with anyio.create_task_group() as group:
                group.start_soon(mine.send, blob)
                return len(SCHEMA.encode(blob)), await theirs.receive() == blob

    assert sim(main) == (LIMITS.control_bytes, True)


@pytest.mark.parametrize("late", [False, True])
def test_receiving_can_be_cancelled_anywhere(sim, late):
    """A message of many pieces survives a cancel between any two of them."""

    async def main(turn):
        async with sim_pair(bandwidth=20_000.0) as pair:
            mine, theirs = await both_ends(pair)
            sent = Blob(bytes(range(256)) * 120)
            async with anyio.create_task_group() as group:
                group.start_soon(mine.send, sent)
                cancelled = await cancelled_at(theirs.receive(), turn, late=late)
                received = await theirs.receive() if cancelled else sent
            return cancelled, received == sent

    for turn in range(20):
        cancelled, whole = sim(lambda turn=turn: main(turn))
        assert whole
        if not cancelled:
            break
    assert turn > 1


def test_a_reset_ends_the_conversation(sim):
    """The reader of messages learns of a reset as of any other channel."""

    async def main():
        async with sim_pair() as pair:
            mine, theirs = await both_ends(pair)
            mine.channel.reset()
            with pytest.raises(ChannelReset):
                await theirs.receive()

    sim(main)


def test_messages_wait_for_credit(sim):
    """Whoever sends more than is read waits, and every message arrives once."""

    async def main():
        async with sim_pair(Limits(window_bytes=1024 * KIB)) as pair:
            mine, theirs = await both_ends(pair)

            async def speak():
                for number in range(500):
                    await mine.send(Note(number, "x" * 100))
                mine.channel.end()

            async with anyio.create_task_group() as group:
                group.start_soon(speak)
                return [(await theirs.receive()).number for _ in range(500)]

    assert sim(main) == list(range(500))
