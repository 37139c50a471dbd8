"""A peer that breaks the rules of a session, and credit that runs out."""

from __future__ import annotations

import pytest

from flare_async.errors import RemoteProtocolError
from flare_async.limits import KIB, Limits
from flare_async.wire.events import Arrived, WasReset
from flare_async.wire.frames import Ack, Data, Frame, Landed, Open, Ping, Reset, ResetCode
from flare_async.wire.session import OpenOptions, SessionMachine, Side
from flare_async.wire.windows import CreditBudget
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


def test_an_open_that_the_budget_cannot_honour_is_refused() -> None:
    """What the Hello promised is held, or the channel is not accepted."""
    budget = CreditBudget(1500)
    pair = Pair(LIMITS, FRAME, budgets=(None, budget)).greet()
    for topic in ("one", "two"):
        pair.a.open(topic)
    pair.a.open("three", options=OpenOptions(end=True))
    refused = WasReset(3, ResetCode.REFUSED, "no credit: 1000 bytes needed, 500 left")
    assert pair.settle()[pair.a] == [refused]
    assert pair.b.open_channels == 2
    pair.b.reset(1, ResetCode.CANCELLED, "")
    assert budget.available == 1500


def test_a_channel_opened_without_credit_gets_some_when_it_returns() -> None:
    """It waits for other channels, for ever only if they do."""
    budget = CreditBudget(64 * KIB)
    pair = Pair(LIMITS, FRAME, budgets=(budget, None)).greet()
    budget.take(64 * KIB)
    channels = [pair.a.open(f"{number}") for number in range(2)]
    pair.settle()
    for channel in channels:
        pair.b.send(channel, bytes(50_000))
    pair.settle()
    assert [pair.b.unsent(channel) for channel in channels] == [50_000, 50_000]
    budget.give(8 * KIB)
    assert pair.a.has_frames
    pair.settle()
    assert [pair.b.unsent(channel) for channel in channels] == [50_000 - 4 * KIB, 50_000]
    pair.a.lease(channels[1])
    assert Arrived in {type(event) for event in pair.settle()[pair.a]}
    assert pair.b.unsent(channels[1]) == 0
    pair.a.close()
    assert budget.available == 8 * KIB


def test_a_channel_without_credit_is_told_when_another_session_frees_some() -> None:
    """Once for each time that it asks, and not when it has got some or is closed."""
    told: list[int] = []
    shared = CreditBudget(64 * KIB)
    budget = CreditBudget(64 * KIB, shared, lambda: told.append(shared.available))
    pair = Pair(LIMITS, FRAME, budgets=(budget, None)).greet()
    shared.take(64 * KIB)
    pair.a.open("starved")
    for _ in range(2):
        shared.give(KIB)
    assert told == [KIB]
    pair.a.await_credit()
    shared.give(30 * KIB)
    assert told == [KIB, 32 * KIB]
    assert pair.a.has_frames
    pair.settle()
    pair.a.await_credit()
    shared.give(KIB)
    pair.a.close()
    assert len(told) == 2


def test_a_starved_channel_that_is_reset_waits_no_longer() -> None:
    """Nothing is left in the list of those that wait."""
    budget = CreditBudget(64 * KIB)
    pair = Pair(LIMITS, FRAME, budgets=(budget, None)).greet()
    budget.take(64 * KIB)
    first, second = pair.a.open("first"), pair.a.open("second")
    pair.a.reset(first, 1, "")
    budget.give(64 * KIB)
    pair.settle()
    pair.b.send(second, bytes(32 * KIB))
    pair.settle()
    assert pair.b.unsent(second) == 0
    assert not pair.a.has_frames


def test_closing_returns_all_credit() -> None:
    """The link has ended, and with it every promise."""
    budget = CreditBudget(100_000)
    pair = Pair(LIMITS, FRAME, budgets=(budget, budget)).greet()
    pair.a.open("one")
    pair.a.ping(1)
    pair.settle()
    assert budget.available < 50_000
    pair.a.close()
    pair.b.close()
    assert budget.available == 100_000
    assert not pair.a.has_frames
