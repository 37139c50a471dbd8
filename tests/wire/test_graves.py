"""How channels ended, and when that is forgotten."""

from __future__ import annotations

from flare_async.wire.frames import Ack, Reset, ResetCode
from flare_async.wire.graves import Graves

FORGOTTEN = Reset(9, int(ResetCode.GONE), "how it ended is forgotten")


def test_each_channel_has_its_last_word() -> None:
    """A Reset, a final Ack, or that nobody knows."""
    graves = Graves(4)
    graves.reset(Reset(1, 8, "late"))
    graves.finish(3, 50)
    answers = [graves.answer(channel) for channel in (1, 3, 9)]
    assert answers == [Reset(1, 8, "late"), Ack(3, 50, 50), FORGOTTEN]


def test_a_pong_forgets_what_was_there_when_its_ping_was_queued() -> None:
    """Later ones are kept, and a Ping that was asked meanwhile proves nothing more."""
    graves = Graves(4)
    graves.asked()
    for channel in (1, 3):
        graves.finish(channel, 0)
    graves.asked()
    graves.answered()
    assert len(graves) == 2
    graves.asked()
    graves.finish(5, 0)
    for left in (3, 1):
        graves.answered()
        assert len(graves) == left
    assert graves.answer(5) == Ack(5, 0, 0)


def test_a_pong_that_nobody_asked_for_proves_nothing() -> None:
    """Nor does one of a link that is gone."""
    graves = Graves(4)
    graves.finish(1, 0)
    graves.answered()
    graves.asked()
    graves.detach()
    graves.answered()
    assert len(graves) == 1


def test_what_was_pushed_out_meanwhile_needs_no_pong() -> None:
    """The newer ones are still unheard."""
    graves = Graves(2)
    graves.finish(1, 0)
    graves.asked()
    for channel in (3, 5):
        graves.finish(channel, 0)
    graves.answered()
    assert [graves.answer(channel) for channel in (3, 5)] == [Ack(3, 0, 0), Ack(5, 0, 0)]
