"""Credit for tensors behind messages: who has it, how much of it, and when it is told anew."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flare_async.errors import LocalProtocolError, RemoteProtocolError
from flare_async.limits import KIB, Limits
from flare_async.wire.events import Arrived
from flare_async.wire.frames import Ack, Hello
from flare_async.wire.session import OpenOptions
from flare_async.wire.windows import CARRYING, FIRST_WINDOW, CreditBudget
from tests.wire.pair import Pair, greeting

CARRY = 100 * KIB
URGENT = OpenOptions(urgent=True, window=FIRST_WINDOW)


def hello(name: str, carry: int = CARRY) -> Hello:
    """Return a Hello of somebody who takes tensors behind messages."""
    return replace(greeting(name, FIRST_WINDOW), carry=carry)


def met() -> Pair:
    """Return a site ``a`` that takes them, and a server ``b``."""
    pair = Pair(Limits(), 2**20, budgets=(None, CreditBudget(2**20)))
    pair.a.hello(hello("a"))
    pair.b.hello(hello("b", 0))
    pair.settle()
    return pair


def test_only_urgent_channels_have_the_credit() -> None:
    """Bulk has a window that grows with what is read."""
    pair = met()
    urgent, bulk = pair.b.open("task", options=URGENT), pair.b.open("bulk")
    assert pair.b.statistics(urgent).limit == FIRST_WINDOW + CARRY
    assert pair.b.statistics(bulk).limit == FIRST_WINDOW
    mine = pair.a.open("task", options=URGENT)
    assert pair.a.statistics(mine).limit == FIRST_WINDOW


def test_what_was_carried_is_not_acknowledged_while_messages_have_room() -> None:
    """Nobody waits for that; the rest of the credit is enough for what is said later."""
    pair = met()
    channel = pair.b.open("task", options=URGENT)
    pair.b.send(channel, bytes(CARRY))
    pair.settle()
    pair.a.consume(channel, CARRY, 0.0)
    assert not pair.a.has_frames
    pair.b.send(channel, bytes(FIRST_WINDOW))
    pair.settle()
    pair.a.consume(channel, FIRST_WINDOW, 0.0)
    assert [type(frame) for frame in pair.emit(pair.a)] == [Ack]


def test_a_peer_that_leaves_tensors_unread_on_too_many_channels_is_refused() -> None:
    """Each hello promises memory for eight of them, not for all channels that may be open."""
    pair = met()
    assert pair.b.may_carry(CARRY)
    assert not pair.b.may_carry(CARRY + 1)
    for _ in range(CARRYING):
        pair.b.send(pair.b.open("task", options=URGENT), bytes(CARRY))
    assert not pair.b.may_carry(CARRY)
    pair.settle()
    pair.b.send(pair.b.open("task", options=URGENT), bytes(CARRY))
    with pytest.raises(RemoteProtocolError, match="tensors wait on 9 channels"):
        pair.settle()


def test_half_of_a_budget_is_never_promised() -> None:
    """Of the parent's neither: what one session has promised counts for all."""
    parent = CreditBudget(1000)
    one, other = CreditBudget(800, parent), CreditBudget(800, parent)
    assert one.spares(400)
    assert not one.spares(401)
    one.take(400)
    assert other.spares(100)
    assert not other.spares(101)


def test_an_answer_lets_go_of_what_was_sent() -> None:
    """It will never be asked for again, though no acknowledgement came."""
    pair = met()
    channel = pair.b.open("task", options=URGENT)
    pair.b.send(channel, bytes(CARRY))
    events = pair.settle()
    assert any(isinstance(event, Arrived) for event in events[pair.a])
    assert pair.b.statistics(channel).acknowledged == 0
    pair.b.answered(channel)
    assert pair.b.statistics(channel).acknowledged == CARRY
    with pytest.raises(LocalProtocolError, match="never opened"):
        pair.b.statistics(channel + 2)


def test_an_answer_on_a_channel_that_is_closed_changes_nothing() -> None:
    """It may have been reset while the answer was on its way."""
    pair = met()
    channel = pair.b.open("task", options=URGENT)
    pair.b.send(channel, bytes(CARRY))
    pair.b.reset(channel, 1, "not any more")
    pair.b.answered(channel)
    with pytest.raises(LocalProtocolError, match="is closed"):
        pair.b.statistics(channel)
    with pytest.raises(LocalProtocolError, match="is closed"):
        pair.b.send(channel, b"more")
