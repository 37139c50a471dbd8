"""A peer that breaks the rules of a session, and credit that runs out."""

from __future__ import annotations

import pytest

from flare_async.errors import RemoteProtocolError
from flare_async.limits import KIB, Limits
from flare_async.wire.frames import Ack, Data, Frame, Landed, Open, Ping, Reset, ResetCode
from flare_async.wire.session import SessionMachine, Side
from flare_async.wire.windows import FIRST_WINDOW, CreditBudget
from tests.wire.pair import Pair, greeting

LIMITS = Limits(channels=8)
FRAME = 100


def talking() -> Pair:
    """Return two machines that know each other."""
    return Pair(LIMITS, FRAME).greet()


def acceptor(*frames: Frame) -> SessionMachine:
    """Return an acceptor that has taken the frames of a hand-made connector."""
    machine = SessionMachine(Side.ACCEPTOR, LIMITS, FRAME)
    machine.hello(greeting("b"))
    for frame in (greeting("a"), *frames):
        machine.receive(frame, 0)
    machine.frames_to_send(2**20)
    return machine


OPENED = Open(1, "t", window=100)


@pytest.mark.parametrize(
    ("before", "frame", "reason"),
    [
        ([], greeting("a"), "second_hello"),
        ([], Open(2, "even"), "bad_channel"),
        ([], Open(0, "zero"), "bad_channel"),
        ([], Open(3, "far ahead"), "bad_channel"),
        ([OPENED], OPENED, "bad_channel"),
        ([OPENED, Reset(1, 1, "")], OPENED, "bad_channel"),
        ([], Data(1, 0, b"x"), "unknown_channel"),
        ([], Data(2, 0, b"x"), "unknown_channel"),
        ([], Data(1, 0, b"", end=True), "unknown_channel"),
        ([], Ack(1, 0, 5), "unknown_channel"),
        ([], Reset(3, 1, ""), "unknown_channel"),
        ([], Landed(1, 0, 5), "unknown_channel"),
        ([OPENED], Data(1, 5, b"x"), "bad_offset"),
        ([OPENED], Data(1, 0, bytes(1001)), "window_exceeded"),
        ([OPENED], Landed(1, 0, 1001), "window_exceeded"),
        ([OPENED], Data(1, 0, b""), "bad_length"),
        ([OPENED], Data(1, 5, b"", end=True), "bad_end"),
        ([OPENED, Data(1, 0, b"", end=True)], Data(1, 0, b"", end=True), "bad_end"),
        ([OPENED, Data(1, 0, b"", end=True)], Data(1, 0, b"x"), "data_after_end"),
        ([Open(1, "t", end=True)], Data(1, 0, b"x"), "data_after_end"),
        ([Open(1, "t", end=True)], Data(1, 0, b"", end=True), "bad_end"),
        ([OPENED], Ack(1, 1, 100), "bad_ack"),
        ([OPENED], Ack(1, 0, 99), "bad_ack"),
        ([OPENED], Ack(1, 0, 2**63 + 1), "bad_ack"),
    ],
)
def test_a_frame_that_breaks_a_rule_is_refused(
    before: list[Frame], frame: Frame, reason: str
) -> None:
    """Ids, offsets, windows, ends and acknowledgements."""
    machine = acceptor(*before)
    with pytest.raises(RemoteProtocolError) as caught:
        machine.receive(frame, 0)
    assert caught.value.reason == reason


def test_the_first_frame_must_be_a_hello_of_our_version() -> None:
    """The error names both versions."""
    machine = SessionMachine(Side.ACCEPTOR, LIMITS, FRAME)
    with pytest.raises(RemoteProtocolError, match="hello_expected: the first frame is Ping"):
        machine.receive(Ping(1), 0)
    with pytest.raises(RemoteProtocolError, match="'a' speaks version 9, this side 1"):
        machine.receive(greeting("a", version=9), 0)
    machine.hello(greeting("b", version=2))
    with pytest.raises(RemoteProtocolError, match="version 1, this side 2"):
        machine.receive(greeting("a"), 0)


def test_an_open_before_our_hello_is_refused() -> None:
    """The peer cannot know its credit yet."""
    machine = SessionMachine(Side.ACCEPTOR, LIMITS, FRAME)
    machine.receive(greeting("a"), 0)
    with pytest.raises(RemoteProtocolError, match="before our Hello"):
        machine.receive(OPENED, 0)


def test_a_hello_that_allows_no_payload_is_refused() -> None:
    """Over memory links no codec has checked it."""
    hello = greeting("a")
    broken = type(hello)(1, "a", hello.session, 0, b"", "client", 0, 0)
    with pytest.raises(RemoteProtocolError, match="frames of 0 bytes"):
        SessionMachine(Side.ACCEPTOR, LIMITS, FRAME).receive(broken, 0)


def test_frames_are_no_longer_than_the_peer_accepts() -> None:
    """The smaller of both sides' numbers holds."""
    machine = SessionMachine(Side.CONNECTOR, LIMITS, 1000)
    machine.hello(greeting("a"))
    hello = greeting("b")
    machine.receive(type(hello)(1, "b", hello.session, 0, b"", "server", 1000, 300), 0)
    machine.send(machine.open("t"), bytes(1000))
    frames = machine.frames_to_send(2**20)[2:]
    assert [len(frame.payload) for frame in frames if isinstance(frame, Data)] == [300] * 3 + [100]


def test_opening_and_resetting_without_reading_is_stopped() -> None:
    """Answers that nobody reads must not pile up."""
    machine = acceptor()
    for number in range(1, 66, 2):
        machine.receive(Open(number, "t", end=True), 0)
        machine.reset(number, ResetCode.REFUSED, "no")
    with pytest.raises(RemoteProtocolError, match="control_flood: 33 answers"):
        machine.receive(Open(67, "t", end=True), 0)


def test_opens_after_our_goodbye_are_dropped() -> None:
    """Their ids count as used, nothing is kept."""
    machine = acceptor()
    machine.leave(0, "")
    assert machine.receive(OPENED, 0) == []
    assert machine.open_channels == 0
    assert machine.receive(Data(1, 0, b"x"), 0) == []


def test_s4_readers_who_stand_still_cannot_keep_others_from_being_heard() -> None:
    """They hold the whole budget; every other channel still moves by its first window."""
    budget = CreditBudget(64 * KIB)
    pair = Pair(LIMITS, FRAME, budgets=(budget, budget)).greet()
    budget.take(64 * KIB)
    theirs = [pair.a.open(f"{number}") for number in range(4)]
    pair.settle()
    for channel in theirs:
        pair.b.send(channel, bytes(50_000))
        pair.a.send(channel, bytes(50_000))
    pair.settle()
    assert [pair.b.unsent(channel) for channel in theirs] == 4 * [50_000 - FIRST_WINDOW]
    for _ in range(10):
        for channel in theirs[:1]:
            numbers = pair.a.statistics(channel)
            pair.a.consume(channel, numbers.received - numbers.consumed, 0)
        pair.settle()
    assert pair.b.unsent(theirs[0]) < pair.b.unsent(theirs[1])
    pair.a.close()
    assert budget.available == 0


def test_closing_returns_all_credit() -> None:
    """The link has ended, and with it every promise."""
    budget = CreditBudget(100_000)
    pair = Pair(LIMITS, FRAME, budgets=(budget, budget)).greet()
    pair.a.open("one")
    pair.a.ping(1)
    pair.settle()
    assert budget.available < 100_000
    pair.a.close()
    pair.b.close()
    assert budget.available == 100_000
    assert not pair.a.has_frames
