"""Frames that break a rule (B04, B06, B08, B09, B12, B13, B15): each is a typed error at once."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from flare_async.errors import RemoteProtocolError
from flare_async.limits import KIB
from flare_async.wire.codec import Decoder
from flare_async.wire.frames import Ack, Data, Open, Ping, Reset, ResetCode
from flare_async.wire.head import HEAD_BYTES, Kind
from tests.hostile.cost import refused
from tests.hostile.machines import LIMITS, Victim, reason_of
from tests.wire.strategies import forged, forged_head

OPENED = Open(1, "t", window=100)
MOST = LIMITS.frame_bytes


def bare() -> Decoder:
    """Return a decoder that is past the greeting."""
    return Decoder(limits=LIMITS, preamble=False)


@pytest.mark.parametrize("length", [0, MOST + 1, 2**31 - 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("kind", list(Kind))
def test_b04_a_length_out_of_bounds_is_refused_before_memory_is_taken(
    length: int, kind: Kind
) -> None:
    """For each type of frame; ``-1`` as four bytes is 2**32-1."""
    place = (0 if kind in {Kind.HELLO, Kind.GOODBYE, Kind.PING, Kind.PONG} else 1, 0)
    head = forged_head(length, kind, place=place)
    if length == 0 and kind in {Kind.PING, Kind.PONG}:
        assert bare().feed(head) == [
            type(frame)(0) for frame in bare().feed(forged(kind, place=place))
        ]
        return
    refused(lambda: bare().feed(head), RemoteProtocolError)


@pytest.mark.parametrize("length", [1, MOST])
def test_b04_the_boundaries_themselves_are_accepted(length: int) -> None:
    """One byte and exactly the most; memory is taken in pieces as bytes arrive."""
    decoder = bare()
    assert decoder.feed(forged_head(length, Kind.DATA, place=(1, 0))) == []
    assert len(decoder.buffer()) <= 64 * KIB


def test_b04_a_frame_shorter_than_a_head_is_waited_for_and_then_truncated() -> None:
    """A head has no length of its own that could lie."""
    for cut in range(1, HEAD_BYTES):
        decoder = bare()
        assert decoder.feed(forged(Kind.PING)[:cut]) == []
        assert reason_of(decoder.eof) == "truncated"


@pytest.mark.parametrize("kind", [0, 10, 99, 127, 128, 254, 255])
def test_b06_an_unknown_type_is_skipped_only_with_the_optional_bit(kind: int) -> None:
    """With it the frame is skipped, body and all, and the next one is read."""
    ping = forged(Kind.PING, place=(0, 4))
    assert reason_of(bare().feed, forged(kind, b"body") + ping) == "unknown_frame"
    assert bare().feed(forged(kind, b"body", flags=0x80) + ping)[-1:] == [Ping(4)]


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("flags", [0x02, 0x40, 0x80, 0x81, 0xFF])
def test_b06_reserved_flags_of_a_known_type_are_refused(kind: Kind, flags: int) -> None:
    """Also the optional bit: a type that is known is not optional."""
    assert reason_of(bare().feed, forged(kind, b"x", flags=flags, place=(1, 0))) == "bad_flags"


@pytest.mark.parametrize(
    ("before", "channel"),
    [
        ([], 2),
        ([], 3),
        ([], 2**31 + 1),
        ([], 2**32 - 1),
        ([OPENED], 1),
        ([OPENED, Reset(1, 1, "")], 1),
        ([OPENED], 5),
    ],
)
def test_b08_an_id_that_is_not_the_next_one_is_refused(before: list[Open], channel: int) -> None:
    """Wrong parity, far ahead, in use, reused after its end."""
    victim = Victim(*before)
    held = victim.machine.open_channels
    assert reason_of(victim.take, Open(channel, "t")) == "bad_channel"
    assert victim.machine.open_channels == held


def test_b08_the_id_zero_is_refused_by_its_head() -> None:
    """It belongs to the link itself."""
    assert reason_of(Victim().take, Open(0, "t")) == "bad_head"
    assert reason_of(Victim().judge, Open(0, "t")) == "bad_channel"


def test_b08_state_is_that_of_open_channels_only() -> None:
    """Four thousand channels that came and went leave no more than four do."""
    victim = Victim(pace=1.0)

    def come_and_go(first: int, count: int) -> None:
        for channel in range(first, first + 2 * count, 2):
            victim.take(Open(channel, "t"), Reset(channel, 1, ""))
            victim.answers()

    come_and_go(1, 4)
    tracemalloc.start()
    try:
        come_and_go(9, 4000)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert victim.machine.open_channels == 0
    assert victim.budget.available == victim.budget.total
    assert grown < 10_000


def test_b08_one_channel_more_than_the_limit_is_refused_and_nothing_else() -> None:
    """The peer is told, the others stay."""
    victim = Victim(pace=1.0)
    for channel in range(1, 2 * LIMITS.channels, 2):
        victim.take(Open(channel, "t", end=True))
    assert victim.take(Open(2 * LIMITS.channels + 1, "t", end=True)) == []
    assert victim.machine.open_channels == LIMITS.channels
    resets = [frame for frame in victim.answers() if isinstance(frame, Reset)]
    assert [(reset.channel, reset.code) for reset in resets] == [
        (2 * LIMITS.channels + 1, ResetCode.REFUSED)
    ]


@pytest.mark.parametrize("frame", [Data(3, 0, b"x"), Data(2, 0, b"x"), Data(3, 0, b"", end=True)])
def test_b09_data_of_a_channel_that_was_never_opened_is_an_error(frame: Data) -> None:
    """Of either parity."""
    assert reason_of(Victim(OPENED).take, frame) == "unknown_channel"


@pytest.mark.parametrize(
    "late", [Data(1, 0, b"x"), Data(1, 2**62, b"x"), Data(1, 0, b"", end=True), Ack(1, 9, 9)]
)
def test_b09_what_is_late_for_a_channel_that_has_ended_revives_nothing(late: Data | Ack) -> None:
    """It may have crossed our Reset on its way."""
    victim = Victim(OPENED, Reset(1, 1, ""))
    assert victim.take(late, late) == []
    assert victim.machine.open_channels == 0
    assert victim.budget.available == victim.budget.total


def test_b12_a_limit_beyond_the_largest_offset_is_an_error() -> None:
    """On the wire and by reference."""
    ack = forged(Kind.ACK, (2**63 + 1).to_bytes(8, "big"), place=(1, 0))
    assert reason_of(Victim(OPENED).feed, ack) == "bad_ack"
    assert reason_of(Victim(OPENED).judge, Ack(1, 0, 2**64)) == "bad_ack"


def test_b12_an_ack_of_an_unknown_channel_is_an_error_and_of_a_closed_one_ignored() -> None:
    """The first cannot be a race, the second can."""
    assert reason_of(Victim(OPENED).take, Ack(3, 0, 100)) == "unknown_channel"
    assert Victim(OPENED, Reset(1, 1, "")).take(Ack(1, 0, 100)) == []


@pytest.mark.parametrize("payload", [65_537, 200_000])
def test_b13_bytes_beyond_the_granted_window_are_an_error(payload: int) -> None:
    """One byte suffices, and nothing of it reaches the application."""
    victim = Victim(OPENED)
    whole = range(0, 65_000, 1000)
    for at in whole:
        victim.take(Data(1, at, bytes(1000)))
    assert reason_of(victim.take, Data(1, 65_000, bytes(payload - 65_000))) == "window_exceeded"


def test_b13_bytes_beyond_the_declared_total_reset_the_channel_alone() -> None:
    """The memory that waits for them is not overrun, the link goes on."""
    victim = Victim(OPENED, Open(3, "other", window=100))
    victim.machine.lease(1, 10)
    events = victim.take(Data(1, 0, bytes(11)))
    assert [type(event).__name__ for event in events] == ["Overran"]
    codes = [(f.channel, f.code) for f in victim.answers() if isinstance(f, Reset)]
    assert codes == [(1, ResetCode.PROTOCOL)]
    assert [type(event).__name__ for event in victim.take(Data(3, 0, b"x"))] == ["Arrived"]


@pytest.mark.parametrize("ack", [Ack(1, 1, 100), Ack(1, 2**62, 2**63), Ack(1, 0, 99)])
def test_b15_an_ack_of_what_was_never_sent_or_that_goes_back_is_an_error(ack: Ack) -> None:
    """Nothing was sent on the channel, and its limit was 100."""
    assert reason_of(Victim(OPENED).take, ack) == "bad_ack"


def test_a_refused_frame_ends_the_stream_and_what_follows_is_not_read() -> None:
    """Closed within one frame: a valid one behind it has no effect."""
    victim = Victim()
    with pytest.raises(RemoteProtocolError):
        victim.feed(forged(77) + b"".join([forged(Kind.PING), forged(Kind.PING)]))
    assert reason_of(victim.feed, forged(Kind.PING)) == "unknown_frame"
    assert victim.answers()[1:] == []
