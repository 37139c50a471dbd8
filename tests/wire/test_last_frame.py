"""The last frame of a direction: its payload, its end, and what it says of the other direction."""

from __future__ import annotations

import pytest

from flare_async.errors import RemoteProtocolError
from flare_async.limits import Limits
from flare_async.wire.codec import HEAD_BYTES, Decoder, encode
from flare_async.wire.events import Arrived, Credited, Ended, Finished
from flare_async.wire.frames import Ack, Data
from flare_async.wire.session import OpenOptions
from tests.wire.cable import connected, rejoined
from tests.wire.pair import Pair

LIMITS = Limits(channels=4)
URGENT = OpenOptions(urgent=True)


def talking() -> Pair:
    """Return two machines that know each other."""
    return Pair(LIMITS, 100).greet()


def answered(pair: Pair) -> int:
    """Let a ask once on an urgent channel and end, and b consume that; return the channel."""
    channel = pair.a.open("task", options=URGENT)
    pair.a.send(channel, b"result")
    pair.a.end(channel)
    pair.settle()
    assert pair.b.consume(channel, 6, 0) == []
    return channel


@pytest.mark.parametrize("payload", [b"", b"x", bytes(70_000)])
@pytest.mark.parametrize("trailer", [b"", b"digest"])
@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_payload_and_end_are_one_frame_of_the_wire(
    payload: bytes, trailer: bytes, step: int
) -> None:
    """The trailer stands before the payload, so nothing is held back; read in any pieces."""
    if step == 1:
        payload = payload[:5]
    wire = b"".join(encode(Data(1, 10, payload, True, trailer, True)))
    decoder = Decoder(limits=LIMITS, preamble=False)
    found = [one for at in range(0, len(wire), step) for one in decoder.feed(wire[at : at + step])]
    decoder.eof()
    last = found[-1]
    assert isinstance(last, Data)
    assert last == Data(1, 10 + len(payload) - len(last.payload), last.payload, True, trailer, True)
    assert not any(one.end for one in found[:-1] if isinstance(one, Data))
    assert bool(last.payload) == bool(payload)
    assert b"".join(bytes(one.payload) for one in found if isinstance(one, Data)) == payload
    assert len(wire) == HEAD_BYTES + len(payload) + (len(trailer) + 4 if trailer else 0)


def test_an_end_frame_that_is_cut_in_its_payload_is_truncated() -> None:
    """The end does not count before all of the payload has come."""
    wire = b"".join(encode(Data(1, 0, b"payload", True, b"digest")))
    decoder = Decoder(limits=LIMITS, preamble=False)
    found = decoder.feed(wire[:-1])
    assert not any(isinstance(one, Data) and one.end for one in found)
    with pytest.raises(RemoteProtocolError, match="truncated"):
        decoder.eof()


def test_what_is_queued_with_the_end_leaves_in_one_frame() -> None:
    """And arrives as bytes and then their end; one acknowledgement answers both."""
    pair = talking()
    channel = pair.a.open("up")
    pair.settle()
    pair.a.send(channel, b"data")
    pair.a.end(channel, b"t")
    assert pair.emit(pair.a) == [Data(1, 0, memoryview(b"data"), True, b"t")]
    assert pair.deliver(pair.a) == [Arrived(1, memoryview(b"data")), Ended(1, b"t")]
    pair.b.consume(channel, 4, 0)
    assert pair.emit(pair.b) == [Ack(1, 4, 4)]


def test_the_last_message_says_that_all_of_the_other_side_was_consumed() -> None:
    """No acknowledgement of its own: on an urgent channel the answer is one."""
    pair = talking()
    channel = answered(pair)
    assert not pair.b.has_frames
    pair.b.send(channel, b"receipt")
    pair.b.end(channel)
    assert pair.emit(pair.b) == [Data(1, 0, memoryview(b"receipt"), True, b"", True)]
    seen = pair.deliver(pair.b)
    assert seen == [Arrived(1, memoryview(b"receipt")), Credited(1), Ended(1, b"")]
    assert pair.a.consume(channel, 7, 0) == [Finished(1)]
    assert pair.settle()[pair.b] == [Credited(1), Finished(1)]


def test_whoever_ends_before_the_other_side_acknowledges_its_end_later() -> None:
    """The frame that could have said it has left already."""
    pair = talking()
    channel = pair.a.open("task", options=URGENT)
    pair.settle()
    pair.b.end(channel)
    assert pair.settle()[pair.a] == [Ended(1, b"")]
    pair.a.end(channel)
    seen = pair.settle()
    assert seen[pair.a] == [Credited(1), Finished(1)]
    assert seen[pair.b] == [Credited(1), Ended(1, b""), Finished(1)]


def test_an_end_of_ours_that_was_never_sent_cannot_have_been_consumed() -> None:
    """A peer that claims so breaks the protocol."""
    pair = talking()
    pair.a.open("task", options=URGENT)
    pair.settle()
    with pytest.raises(RemoteProtocolError, match="ours was not sent"):
        pair.a.receive(Data(1, 0, b"", True, b"", True), 0)


def test_a_last_message_that_was_lost_says_it_again() -> None:
    """Both sides finish on the next link, and nothing is left of the channel."""
    cable = connected()
    channel = cable.b.open("task", options=URGENT)
    cable.b.send(channel, b"result")
    cable.b.end(channel)
    cable.settle()
    cable.a.consume(channel, 6, 0)
    cable.a.end(channel, b"t")
    cable.emit(cable.a)
    cable.cut()
    assert rejoined(cable) == [Ack(2, 6, 6), Data(2, 0, b"", True, b"t", True)]
    cable.settle()
    assert [cable.a.open_channels, cable.b.open_channels] == [0, 0]
