"""Two session machines talking: channels, credit, lanes, ends."""

from __future__ import annotations

import pytest

from flare_async.errors import LocalProtocolError, RemoteProtocolError, ResourceLimit
from flare_async.limits import Limits
from flare_async.wire.events import (
    Arrived,
    Credited,
    Ended,
    Finished,
    LandedBytes,
    Opened,
    Overran,
    PeerHello,
    PeerLeft,
    Ponged,
    WasReset,
)
from flare_async.wire.frames import Ack, Data, Goodbye, Hello, Landed, Open, Reset, ResetCode
from flare_async.wire.session import OpenOptions
from tests.wire.pair import WINDOW, Pair, greeting

LIMITS = Limits(channels=4)
FRAME = 100


def talking(limits: Limits = LIMITS) -> Pair:
    """Return two machines that know each other."""
    return Pair(limits, FRAME).greet()


def test_nothing_but_the_hello_leaves_before_the_peers_hello() -> None:
    """Opens and data queue, and leave in order afterwards."""
    pair = Pair(LIMITS, FRAME)
    channel = pair.a.open("early")
    pair.a.open("idle")
    pair.a.send(channel, b"data")
    assert not pair.a.has_frames
    pair.a.hello(greeting("a"))
    assert [type(frame) for frame in pair.emit(pair.a)] == [Hello]
    assert not pair.a.has_frames
    assert pair.a.receive(greeting("b"), 0) == [PeerHello(greeting("b"))]
    assert pair.a.peer_hello == greeting("b")
    assert pair.emit(pair.a) == [
        Open(1, "early", b"", LIMITS.window_bytes),
        Open(3, "idle", b"", LIMITS.window_bytes),
        Data(1, 0, memoryview(b"data")),
    ]


def test_a_request_and_its_answer_finish_the_channel_on_both_sides() -> None:
    """Each side consumes what the other sent; no state is left."""
    pair = talking()
    channel = pair.a.open("ask", b"header", options=OpenOptions(destination="site", hops=2))
    pair.a.send(channel, b"question")
    pair.a.end(channel, b"t")
    at_b = pair.settle()[pair.b]
    assert at_b == [
        Opened(1, "ask", b"header", False, False, "site", 2),
        Arrived(1, memoryview(b"question")),
        Ended(1, b"t"),
    ]
    assert pair.b.consume(channel, 8, 0) == []
    assert pair.b.consume(channel, 0, 0) == []
    pair.b.end(channel)
    seen = pair.settle()
    assert seen[pair.a] == [Credited(1), Ended(1, b""), Finished(1)]
    assert seen[pair.b] == [Credited(1), Finished(1)]
    assert [pair.a.open_channels, pair.b.open_channels] == [0, 0]


def test_the_last_consume_may_finish_the_channel() -> None:
    """Then the call itself says so."""
    pair = talking()
    channel = pair.a.open("pull", options=OpenOptions(end=True))
    pair.settle()
    pair.b.send(channel, b"tensor")
    pair.b.end(channel, b"digest")
    assert pair.settle()[pair.a] == [Arrived(1, memoryview(b"tensor")), Ended(1, b"digest")]
    assert pair.a.consume(channel, 6, 0) == [Finished(1)]
    assert pair.settle()[pair.b] == [Credited(1), Finished(1)]


def test_only_the_final_ack_says_that_the_end_was_consumed() -> None:
    """An Ack for the last data byte may have been sent before the end arrived."""
    pair = talking()
    channel = pair.a.open("up")
    pair.a.send(channel, b"12345678")
    pair.a.end(channel)
    pair.emit(pair.a)
    assert pair.a.receive(Ack(1, 8, 5000), 0) == [Credited(1)]
    assert not pair.a.statistics(channel).end_acknowledged
    assert pair.a.receive(Ack(1, 8, 8), 0) == [Credited(1)]
    assert pair.a.receive(Ack(1, 8, 8), 0) == []
    assert pair.a.statistics(channel).end_acknowledged


def test_data_stops_at_the_window_and_goes_on_with_credit() -> None:
    """The initial credit is the peer's Hello, then Acks grow it."""
    pair = talking()
    channel = pair.a.open("up")
    pair.a.send(channel, bytes(WINDOW + 50))
    pair.settle()
    pair.a.end(channel)
    assert not pair.a.has_frames
    assert pair.a.unsent(channel) == 50
    assert pair.b.consume(channel, WINDOW // 4, 0) == []
    assert Credited(1) in pair.settle()[pair.a]
    found = pair.a.statistics(channel)
    assert (found.sent, found.acknowledged, found.unsent) == (WINDOW + 50, 250, 0)
    assert found.limit == 250 + LIMITS.window_bytes
    there = pair.b.statistics(channel)
    assert (there.received, there.consumed) == (WINDOW + 50, 250)


def test_a_drained_channel_is_acknowledged_at_once() -> None:
    """The sender of a short burst must not take silence for a stall."""
    pair = talking()
    channel = pair.a.open("up")
    pair.a.send(channel, b"12345")
    pair.settle()
    pair.b.consume(channel, 2, 0)
    assert not pair.b.has_frames
    pair.b.consume(channel, 3, 0)
    assert pair.emit(pair.b) == [Ack(1, 5, 5 + LIMITS.window_bytes)]


def test_leased_bytes_count_as_consumed_on_arrival() -> None:
    """Landed or not; and any window is granted whole."""
    pair = talking()
    channel = pair.a.open("pull", options=OpenOptions(leased=True, end=True, window=10**9))
    assert pair.emit(pair.a)[0].window == 10**9
    assert pair.a.receive(Landed(1, 0, 300), 0) == [LandedBytes(1, 300)]
    assert pair.a.receive(Data(1, 300, b"x"), 0) == [Arrived(1, b"x")]
    assert pair.a.statistics(channel).consumed == 301
    assert pair.emit(pair.a) == [Ack(1, 301, 301 + 10**9)]


@pytest.mark.parametrize("landed", [False, True])
def test_more_than_the_leased_memory_holds_resets_the_channel(landed: bool) -> None:
    """Landed or not; what comes later on that channel is ignored, and the session goes on."""
    pair = talking()
    channel = pair.a.open("pull", options=OpenOptions(leased=True, end=True, window=1000))
    pair.a.lease(channel, 300)
    pair.settle()
    assert pair.a.receive(Landed(1, 0, 300), 0) == [LandedBytes(1, 300)]
    assert pair.emit(pair.a) == [Ack(1, 300, 1000)]
    more = Landed(1, 300, 1) if landed else Data(1, 300, b"x")
    assert pair.a.receive(more, 0) == [Overran(1, 300)]
    assert pair.emit(pair.a) == [Reset(1, ResetCode.PROTOCOL, "more than 300 bytes")]
    assert pair.a.receive(Data(1, 301, b"x"), 0) == []
    assert pair.a.open_channels == 0


def test_a_leased_channel_grants_no_more_than_one_byte_too_many() -> None:
    """A sender that has more than the lease cannot send it."""
    pair = talking()
    channel = pair.a.open("pull", options=OpenOptions(leased=True, end=True, window=200))
    pair.a.lease(channel, 300)
    assert pair.emit(pair.a)[0].window == 200
    pair.a.receive(Landed(1, 0, 200), 0)
    assert pair.emit(pair.a) == [Ack(1, 200, 301)]
    with pytest.raises(RemoteProtocolError, match="the limit is 301"):
        pair.a.receive(Data(1, 200, bytes(200)), 0)


def test_a_channel_can_be_leased_later() -> None:
    """What had arrived before is consumed by the application."""
    pair = talking()
    channel = pair.a.open("pull", options=OpenOptions(window=1000))
    pair.settle()
    pair.a.receive(Landed(1, 0, 10), 0)
    pair.a.lease(channel)
    pair.a.lease(channel)
    pair.a.receive(Landed(1, 10, 20), 0)
    assert pair.a.statistics(channel).consumed == 20
    pair.a.consume(channel, 10, 0)
    assert pair.a.statistics(channel).consumed == 30


def test_control_goes_first_urgent_data_next_and_bulk_in_turn() -> None:
    """No lane waits for the one behind it."""
    pair = talking()
    first, second = pair.a.open("first"), pair.a.open("second")
    urgent = pair.a.open("urgent", options=OpenOptions(urgent=True))
    pair.settle()
    for channel in (first, second, urgent):
        pair.a.send(channel, bytes(2 * FRAME))
    pair.a.ping(7)
    frames = pair.emit(pair.a)
    assert [getattr(frame, "channel", "ping") for frame in frames] == [
        "ping",
        urgent,
        urgent,
        first,
        second,
        first,
        second,
    ]


def test_a_batch_stops_at_its_budget_but_never_sends_nothing() -> None:
    """The link decides how much it wants at a time."""
    pair = talking()
    channel = pair.a.open("up")
    pair.settle()
    pair.a.send(channel, bytes(500))
    assert [len(pair.emit(pair.a, budget)) for budget in (0, 1, 100, 101)] == [1, 1, 1, 2]


def test_opens_with_long_headers_and_many_acks_count_against_the_budget() -> None:
    """So that a batch of control frames is bounded as well."""
    pair = talking()
    channels = [pair.a.open(f"{number}", bytes(60)) for number in range(4)]
    assert [len(pair.emit(pair.a, 100)) for _ in range(2)] == [2, 2]
    for channel in channels:
        pair.a.send(channel, b"x")
    pair.settle()
    for channel in channels:
        pair.b.consume(channel, 1, 0)
    assert [len(pair.emit(pair.b, 33)) for _ in range(2)] == [2, 2]


def test_queued_views_are_sent_by_reference_and_in_bytes() -> None:
    """A view of other items is a view of its bytes."""
    pair = talking()
    channel = pair.a.open("up")
    data = bytearray(b"12345678")
    pair.a.send(channel, memoryview(data).cast("I"))
    pair.a.send(channel, b"")
    data[0] = ord("x")
    sent = pair.emit(pair.a)[-1]
    assert isinstance(sent, Data)
    assert bytes(sent.payload) == b"x2345678"


def test_withdrawn_bytes_never_leave() -> None:
    """What is framed already stays; the end follows if it was asked for."""
    pair = talking()
    channel = pair.a.open("up")
    pair.a.send(channel, bytes(250))
    pair.emit(pair.a, 1)
    pair.emit(pair.a, 1)
    assert pair.a.withdraw(channel) == 50
    assert not pair.a.has_frames
    pair.a.send(channel, bytes(50))
    pair.a.end(channel)
    assert pair.a.withdraw(channel) == 50
    assert pair.emit(pair.a) == [Data(1, 200, b"", end=True)]


def test_a_reset_drops_the_channel_on_both_sides() -> None:
    """Queued data is dropped, the message is made printable, and late frames are ignored."""
    pair = talking()
    channel = pair.a.open("up")
    pair.a.send(channel, bytes(10))
    pair.settle()
    pair.a.send(channel, bytes(10))
    pair.b.consume(channel, 10, 0)
    pair.a.reset(channel, ResetCode.CANCELLED, "no\nmore")
    pair.a.reset(channel, ResetCode.CANCELLED, "again")
    assert pair.emit(pair.a) == [Reset(1, 1, "no?more")]
    assert pair.deliver(pair.a) == [WasReset(1, 1, "no?more")]
    assert not pair.b.has_frames
    end = Data(1, 10, b"", end=True)
    for late in (Data(1, 10, b"x"), Landed(1, 10, 1), end, Ack(1, 5, 9), Reset(1, 1, "")):
        assert pair.b.receive(late, 0) == []
        assert pair.a.receive(late, 0) == []
    assert [pair.a.unsent(channel), pair.a.withdraw(channel)] == [0, 0]
    assert pair.a.consume(channel, 5, 0) == []
    pair.a.lease(channel)


def test_pings_are_answered_up_to_sixteen_at_a_time() -> None:
    """A flood of pings costs sixteen numbers."""
    pair = talking()
    for nonce in range(40):
        pair.a.ping(nonce)
    events = pair.settle()[pair.a]
    assert events == [Ponged(nonce) for nonce in range(16)]


def test_nothing_leaves_after_our_goodbye() -> None:
    """Acknowledgements that are due go before it; data and later commands do not leave."""
    pair = talking()
    channel = pair.a.open("up")
    pair.a.send(channel, b"12345")
    pair.settle()
    pair.b.consume(channel, 5, 0)
    pair.b.send(channel, b"never")
    pair.b.leave(0, "done")
    pair.b.leave(0, "twice")
    pair.b.ping(1)
    pair.b.send(channel, b"never")
    pair.a.ping(1)
    pair.a.send(channel, b"more")
    pair.a.open("late")
    pair.emit(pair.a)
    while pair.queues[pair.a]:
        pair.deliver(pair.a)
    pair.b.consume(channel, 4, 0)
    frames = pair.emit(pair.b)
    assert [type(frame) for frame in frames] == [Ack, Goodbye]
    assert [event for _ in frames for event in pair.deliver(pair.b)][-1] == PeerLeft(0, "done")
    assert not pair.b.has_frames


def test_everything_after_the_peers_goodbye_is_ignored() -> None:
    """Even what would be an error, and no channel can be opened."""
    pair = talking()
    pair.b.leave(3, "bye")
    assert pair.settle()[pair.a] == [PeerLeft(3, "bye")]
    assert pair.a.receive(Data(99, 0, b"x"), 0) == []
    for machine in (pair.a, pair.b):
        with pytest.raises(LocalProtocolError, match="after a goodbye"):
            machine.open("late")


def test_a_goodbye_may_follow_the_hello_at_once() -> None:
    """To tell a peer of another version why; what was queued is dropped."""
    pair = Pair(LIMITS, FRAME)
    pair.a.hello(greeting("a"))
    pair.a.open("never")
    pair.a.leave(6, "version")
    assert [type(frame) for frame in pair.emit(pair.a)] == [Hello, Goodbye]


def test_too_many_channels_are_refused() -> None:
    """Ours by an exception, the peer's by a Reset."""
    pair = Pair(Limits(channels=2), FRAME, acceptor=Limits(channels=1)).greet()
    pair.a.open("one")
    pair.a.open("two")
    with pytest.raises(ResourceLimit, match="channels: 3 needed, 2 allowed"):
        pair.a.open("three")
    seen = pair.settle()
    assert seen[pair.a] == [WasReset(3, ResetCode.REFUSED, "1 channels are open")]
    assert [type(event) for event in seen[pair.b]] == [Opened]


def test_commands_that_cannot_be_are_our_mistake() -> None:
    """Each with its own words."""
    pair = talking()
    channel = pair.a.open("up")
    pair.a.end(channel)
    closed = pair.a.open("closed")
    pair.a.reset(closed, 1, "")
    wrong = {
        "hello once": lambda: pair.a.hello(greeting("a")),
        "after the end": lambda: pair.a.send(channel, b"x"),
        "ended twice": lambda: pair.a.end(channel),
        "trailer of 1025": lambda: pair.a.end(channel, bytes(1025)),
        "channel 3 is closed$": lambda: pair.a.statistics(closed),
        "channel 3 is closed": lambda: pair.a.send(closed, b"x"),
        "channel 2 was never opened": lambda: pair.a.send(2, b"x"),
        "channel 5 was never opened": lambda: pair.a.unsent(5),
        "0 are there": lambda: pair.a.consume(channel, 1, 0),
        "cannot be a topic": lambda: pair.a.open("a\nb"),
        "cannot be a destination": lambda: pair.a.open("t", options=OpenOptions(destination=" ")),
        "256 hops": lambda: pair.a.open("t", options=OpenOptions(hops=256)),
        "window of -1": lambda: pair.a.open("t", options=OpenOptions(window=-1)),
        "opening takes": lambda: pair.a.open("t", bytes(LIMITS.control_bytes)),
    }
    for text, command in wrong.items():
        with pytest.raises(LocalProtocolError, match=text):
            command()


def test_the_channel_ids_can_be_used_up() -> None:
    """After two billion channels the session must be made anew."""
    pair = talking()
    pair.a._table._next_own = 2**32 + 1
    with pytest.raises(LocalProtocolError, match="used up"):
        pair.a.open("one more")


def test_a_machine_without_a_budget_can_be_closed() -> None:
    """Nothing is open afterwards, and what was asked of a closed channel has plain answers."""
    pair = talking()
    channel = pair.a.open("up")
    pair.a.send(channel, bytes(WINDOW + 1))
    assert [pair.a.sendable(channel), pair.a.end_acknowledged(channel)] == [True, False]
    pair.settle()
    assert not pair.a.sendable(channel)
    pair.a.close()
    assert pair.a.open_channels == 0
    assert [pair.a.sendable(channel), pair.a.end_acknowledged(channel)] == [False, True]
