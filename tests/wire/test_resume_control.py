"""What a dead link has swallowed: opens, resets, final Acks and credit are told again."""

from __future__ import annotations

from dataclasses import replace

from flare_async.limits import KIB, Limits
from flare_async.wire.events import (
    Arrived,
    Credited,
    Ended,
    Finished,
    Opened,
    PeerHello,
    Resumed,
    WasReset,
)
from flare_async.wire.frames import (
    Ack,
    Open,
    Reset,
    ResetCode,
    Resume,
)
from flare_async.wire.session import OpenOptions
from tests.wire.cable import RESUMED_LIMITS, compared, connected, hello_of
from tests.wire.pair import WINDOW

LIMITS = RESUMED_LIMITS


def test_an_open_that_never_arrived_is_sent_again() -> None:
    """With what belongs to it, in the order of the ids, and the acceptor hears of it once."""
    cable = connected()
    ask = OpenOptions(end=True, destination="site", hops=2, window=500)
    cable.a.open("one", b"header", options=ask)
    cable.emit(cable.a)
    cable.cut()
    channel = cable.a.open("two")
    cable.a.send(channel, b"early")
    cable.reattach()
    seen = cable.settle()[cable.b]
    assert [type(event) for event in seen] == [PeerHello, Resumed, Opened, Opened, Arrived]
    assert seen[2] == Opened(1, "one", b"header", False, True, "site", 2)
    cable.b.send(1, bytes(501))
    assert cable.b.unsent(1) == 501
    cable.emit(cable.b)
    assert cable.b.unsent(1) == 1


def test_an_open_that_is_sent_again_begins_with_the_new_links_credit() -> None:
    """The peer has never heard of the channel, so an older Hello promised nothing for it."""
    cable = connected()
    channel = cable.a.open("up")
    cable.emit(cable.a)
    cable.a.detach()
    cable.a.attach(hello_of("a", 1), 100)
    cable.a.receive(replace(hello_of("b", 1), window=77), 0)
    cable.a.receive(Resume(2, 1, ()), 0)
    assert cable.a.statistics(channel).limit == 77


def test_a_channel_that_was_reset_without_a_link_leaves_a_gap() -> None:
    """The peer never hears of it; the ids behind it are in order again."""
    cable = connected()
    cable.cut()
    gone, kept, last = (cable.a.open(topic) for topic in ("gone", "kept", "last"))
    for channel in (gone, last):
        cable.a.reset(channel, 1, "")
    cable.reattach()
    seen = cable.settle()
    assert [event.channel for event in seen[cable.b] if isinstance(event, Opened)] == [kept]
    assert cable.b._table.closed(gone)
    after = cable.a.open("after")
    assert Opened in {type(event) for event in cable.settle()[cable.b]}
    assert after == 7


def test_a_channel_opened_and_reset_behind_our_resume_is_told_in_full() -> None:
    """The peer was promised that ids from there on have no gaps."""
    cable = connected()
    before = cable.a.open("before")
    cable.cut()
    cable.reattach()
    cable.emit(cable.a)
    cable.deliver(cable.b)
    cable.emit(cable.b)
    cable.a.receive(hello_of("b", 1), 0)
    behind = cable.a.open("behind")
    cable.a.reset(before, 1, "")
    cable.a.reset(behind, 1, "")
    cable.a.ping(1)
    assert [type(frame) for frame in cable.emit(cable.a)] == [Resume]
    assert cable.a.receive(Resume(2, 1, ()), 0) == [Resumed()]
    assert [type(frame) for frame in cable.emit(cable.a)] == [Open, Reset]
    seen = cable.deliver(cable.b)
    assert [type(event) for event in seen] == [Resumed, Opened, WasReset]


def test_a_reset_that_was_lost_is_sent_again() -> None:
    """Ours, a refusal, and one of a channel that overran; what we forgot is gone."""
    cable = connected()
    channels = [cable.a.open("t") for _ in range(3)]
    cable.settle()
    for channel in channels:
        cable.b.reset(channel, ResetCode.LATE, f"{channel}")
    cable.emit(cable.b)
    cable.cut()
    del cable.b._graves._resets[channels[2]]
    cable.reattach()
    assert [event for event in cable.settle()[cable.a] if isinstance(event, WasReset)] == [
        WasReset(1, ResetCode.LATE, "1"),
        WasReset(3, ResetCode.LATE, "3"),
        WasReset(5, ResetCode.GONE, "how it ended is forgotten"),
    ]
    assert cable.a.open_channels == 0


def test_a_refusal_that_was_lost_is_sent_again() -> None:
    """The acceptor has no room, and the opener hears of it once."""
    cable = connected()
    cable.b._table._limits = Limits(channels=1)
    cable.a.open("fits")
    refused = cable.a.open("does not")
    cable.emit(cable.a)
    cable.deliver(cable.b)
    cable.emit(cable.b)
    cable.cut()
    cable.reattach()
    resets = [event for event in cable.settle()[cable.a] if isinstance(event, WasReset)]
    assert [(event.channel, event.code) for event in resets] == [(refused, ResetCode.REFUSED)]


def test_a_final_ack_that_was_lost_is_sent_again() -> None:
    """From a channel that is open still, and from one that is finished there."""
    cable = connected()
    pull, push = cable.a.open("pull", options=OpenOptions(end=True)), cable.a.open("push")
    cable.settle()
    cable.b.send(pull, b"tensor")
    cable.b.end(pull)
    cable.a.send(push, b"update")
    cable.a.end(push)
    cable.settle()
    assert cable.a.consume(pull, 6, 0) == [Finished(pull)]
    assert cable.b.consume(push, 6, 0) == []
    cable.emit(cable.a)
    cable.emit(cable.b)
    cable.cut()
    cable.reattach()
    seen = cable.settle()
    assert seen[cable.b][-2:] == [Credited(pull), Finished(pull)]
    assert seen[cable.a][-1] == Credited(push)
    assert cable.a.end_acknowledged(push)


def test_credit_that_was_lost_is_told_again_and_only_what_moved() -> None:
    """An idle channel has nothing to tell."""
    cable = connected()
    busy, idle = cable.a.open("busy"), cable.a.open("idle")
    cable.a.send(busy, bytes(WINDOW + 1))
    cable.settle()
    cable.b.consume(busy, WINDOW, 0)
    cable.emit(cable.b)
    cable.cut()
    compared(cable)
    cable.emit(cable.a)
    cable.deliver(cable.b)
    assert cable.emit(cable.b) == [Ack(busy, WINDOW, WINDOW + LIMITS.window_bytes)]
    cable.settle()
    assert [cable.a.unsent(busy), cable.b.statistics(idle).limit] == [0, 4 * KIB * KIB]


def test_a_window_without_credit_is_not_told_as_a_final_ack() -> None:
    """Zero of zero would say that an empty stream was consumed."""
    cable = connected()
    channel = cable.a.open("no credit", options=OpenOptions(window=0))
    cable.settle()
    cable.b.end(channel)
    cable.cut()
    compared(cable)
    assert [type(frame) for frame in cable.emit(cable.a)] == [Resume]
    assert Ended(channel, b"") in cable.settle()[cable.a]


def test_a_window_that_was_used_up_when_the_link_died_opens_again() -> None:
    """Everything was consumed and the Ack that said so was lost: the sender waits for it."""
    cable = connected()
    channel = cable.a.open("pull", options=OpenOptions(leased=True, end=True, window=10))
    cable.settle()
    cable.b.send(channel, bytes(15))
    cable.emit(cable.b)
    cable.deliver(cable.a)
    cable.cut()
    cable.reattach()
    cable.settle()
    assert [cable.b.unsent(channel), cable.a.statistics(channel).received] == [0, 15]


def test_a_pong_ends_what_must_be_remembered() -> None:
    """It proves that the last words were heard; one of an older ping proves less."""
    cable = connected()
    graves = cable.a._graves
    channels = [cable.a.open("t") for _ in range(3)]
    cable.a.ping(0)
    cable.a.reset(channels[0], 1, "")
    cable.a.ping(0)
    cable.settle()
    assert len(graves) == 1
    cable.a.ping(0)
    cable.a.reset(channels[1], 1, "")
    cable.settle()
    assert len(graves) == 1
    cable.a.ping(0)
    cable.cut()
    cable.reattach()
    cable.settle()
    assert len(graves) == 1
    cable.a.ping(0)
    cable.settle()
    assert len(graves) == 0


def test_last_words_are_bounded() -> None:
    """The newest of each kind, as many as channels may be open; without a link, too."""
    cable = connected()
    for _ in range(20):
        cable.a.reset(cable.a.open("t"), 1, "")
    assert len(cable.a._graves) == LIMITS.channels
    cable.a.ping(0)
    for _ in range(20):
        cable.a.reset(cable.a.open("t"), 1, "")
    cable.settle()
    assert len(cable.a._graves) == LIMITS.channels
