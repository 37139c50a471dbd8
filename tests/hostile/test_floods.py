"""Frames that are cheap to send and cost the receiver something (B10, B11, B12, B14, B15)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flare_async.errors import RemoteProtocolError
from flare_async.wire.codec import encode
from flare_async.wire.frames import Ack, Data, Frame, Open, Ping, Pong, Reset
from tests.hostile.machines import Victim
from tests.wire.strategies import forged

EACH = 1e-5  # seconds a frame: a hundred thousand a second
MOST = 40_000  # frames until the budget has to have tripped
MILLION = 1_000_000  # where honest peers send many as well
OPENED = Open(1, "t", window=2**40)


def wire(frame: Open | Data | Ack | Reset | Ping | Pong) -> bytes:
    """Return a frame's bytes."""
    return b"".join(encode(frame))


def until_refused(victim: Victim, stream: Iterator[bytes | Frame], most: int = MOST) -> int:
    """Feed frames until one is refused as a flood; return how many were taken."""
    for count, data in enumerate(stream):
        try:
            if isinstance(data, bytes):
                victim.feed(data)
            else:
                victim.judge(data)
        except RemoteProtocolError as error:
            if error.reason != "flood" or not str(error).isprintable():
                raise
            return count
        if count % 16 == 0:
            victim.answers()
        if count == most:
            break
    pytest.fail(f"{most} frames were taken in {victim.now:.2f} s")


def rapid_resets() -> Iterator[bytes]:
    """Open a channel and give it up, again and again."""
    channel = 3
    while True:
        yield wire(Open(channel, "t"))
        yield wire(Reset(channel, 1, ""))
        channel += 2


def repeated(data: bytes | Frame) -> Iterator[bytes | Frame]:
    """Send the same frame for ever."""
    while True:
        yield data


def test_b10_rapid_resets_trip_the_rate_budget() -> None:
    """What each of them holds for a moment is not the cost: making it is."""
    victim = Victim(OPENED, pace=EACH)
    until_refused(victim, rapid_resets())
    assert victim.machine.open_channels <= 2


def test_b10_frames_crafted_to_make_us_reset_trip_it_as_well() -> None:
    """Each channel is one that we give up ourselves."""
    victim = Victim(OPENED, pace=EACH)

    def provoked() -> Iterator[bytes]:
        channel = 3
        while True:
            yield wire(Open(channel, "t"))
            victim.machine.reset(channel, 2, "no such topic")
            victim.answers()
            channel += 2

    until_refused(victim, provoked())


@pytest.mark.parametrize(
    "frame",
    [
        wire(Ping(7)),
        wire(Pong(7)),
        wire(Ack(1, 0, 2**40)),
        forged(99, b"", flags=0x80),
        forged(99, bytes(60), flags=0x80),
    ],
    ids=["ping", "pong", "ack that grants nothing", "optional", "optional with a body"],
)
def test_b11_a_flood_of_one_cheap_frame_trips_the_rate_budget(frame: bytes) -> None:
    """Pings, window updates, what a receiver may skip."""
    until_refused(Victim(OPENED, pace=EACH), repeated(frame))


def test_b11_an_empty_data_frame_or_a_second_hello_is_no_flood_but_an_error() -> None:
    """There is no such frame, so one is enough."""
    for data, reason in (
        (forged(3, b"", place=(1, 0)), "bad_length"),
        (encode(Victim().machine._own)[0][8:], "second_hello"),
    ):
        with pytest.raises(RemoteProtocolError, match=reason):
            Victim(OPENED).feed(data)


def test_b12_a_window_update_of_nothing_for_a_closed_channel_is_budgeted() -> None:
    """It is ignored each time, but not for ever."""
    victim = Victim(OPENED, Reset(1, 1, ""), pace=EACH)
    until_refused(victim, repeated(Ack(1, 0, 2**40)), MILLION)


@pytest.mark.parametrize("urgent", [False, True])
def test_b14_a_million_chunks_of_one_byte_trip_the_budget_for_tiny_chunks(urgent: bool) -> None:
    """Even where each is consumed at once, and where messages travel."""
    victim = Victim(Open(1, "t", window=2**40, urgent=urgent), pace=EACH)

    def consumed() -> Iterator[Frame]:
        for at in range(MILLION + 2):
            yield Data(1, at, b"x")
            victim.machine.consume(1, 1, victim.now)

    until_refused(victim, consumed(), MILLION)


def test_honest_extremes_trip_nothing() -> None:
    """A thousand tasks opened at once, their ends, and a ping a second beside them."""
    victim = Victim(pace=1e-4)
    for channel in range(1, 1600, 2):
        victim.take(Open(channel, "task", b"offer", 65_536, urgent=True))
        victim.take(Data(channel, 0, b"a short message"))
        victim.machine.consume(channel, 15, victim.now)
    for nonce in range(100):
        victim.now += 1
        victim.take(Ping(nonce))
    assert victim.machine.open_channels == 800
