"""The sending half of a channel: queued references, the peer's debt of progress, one waiter."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import TYPE_CHECKING

from flare_async.errors import AckStalled, BelowMinRate, FlareError, LocalProtocolError
from flare_async.net.flow import Debt
from flare_async.net.rate import Rate
from flare_async.net.watchdog import Watch
from flare_async.wire.codec import PIECE_BYTES
from flare_async.wire.frames import ResetCode

if TYPE_CHECKING:
    from flare_async.net.channel import Channel
    from flare_async.net.session import Session

__all__ = ["Outflow", "wake", "wake_senders"]


class Outflow:
    """Watches that the peer acknowledges, while it can be seen to owe an acknowledgement.

    It owes one while bytes wait for credit, and after the end of a bulk stream. A message that
    waits to be read is no debt, because its reader may be training.

    It holds no reference to its channel, which is an argument instead: two objects that refer to
    each other live on until a garbage collection, and there are thousands of channels a second.
    """

    __slots__ = ("_acknowledged", "_debt", "_queued", "_rate", "_waiter", "_watch", "ended")

    def __init__(self) -> None:
        self._queued = False  # a frame waited for its turn on our own link when the watch was set
        self._waiter: asyncio.Future[None] | None = None
        self._watch: Watch | None = None
        self._debt: Debt | None = None
        self._rate: Rate | None = None
        self._acknowledged = 0
        self.ended = False

    def queued(self, channel: Channel) -> None:
        """Send what may leave and start to watch what may not."""
        channel.session.flush()
        self._arm(channel)

    def credited(self, channel: Channel) -> None:
        """Take note of an acknowledgement that advanced."""
        if self._debt is not None:
            self._disarm()
        if channel.session.limits.min_rate and channel.session.is_open(channel.id):
            self._count(channel)
        if channel.session.machine.sendable(channel.id):
            channel.session.flush()
        self._arm(channel)
        if self._waiter is not None:
            wake(self._waiter)

    def stop(self) -> None:
        """Watch no longer; wakes the waiter."""
        if self._debt is not None:
            self._disarm()
        if self._waiter is not None:
            wake(self._waiter)

    async def drained(self, channel: Channel) -> None:
        """Wait until nothing is unsent or the channel has failed."""
        session, number = channel.session, channel.id
        if self._waiter is not None:
            raise LocalProtocolError(f"{channel!r} already has a sender")
        while channel.failed is None and session.machine.unsent(number):
            self._waiter = session.new_future()
            senders = session.flow.senders = session.flow.senders or {}
            senders[number] = self._waiter
            try:
                await self._waiter
            finally:
                self._waiter = None
                senders.pop(number, None)

    def withdraw(self, channel: Channel) -> None:
        """Take back what has not left."""
        if channel.session.is_open(channel.id):
            channel.session.machine.withdraw(channel.id)
            self._disarm()

    def _arm(self, channel: Channel) -> None:
        if self._watch is not None:
            return
        session, number = channel.session, channel.id
        if session.machine.owes(number, ended=self.ended and not channel.urgent):
            self._queued = session.machine.sendable(number)
            if self._debt is None:
                self._debt = Debt(session.clock.now(), session.flow)
            patience, debt = session.limits.stall_timeout, self._debt
            stalled = partial(self._stalled, channel)
            self._watch = session.watchdog.watch(debt, patience, stalled, debt.since)
            if session.limits.min_rate:
                self._measure(channel)
        else:
            self._rate = None

    def _count(self, channel: Channel) -> None:
        if channel.session.machine.end_acknowledged(channel.id):
            return  # it may be closed already
        acknowledged = channel.statistics().acknowledged
        channel.session.flow.acknowledged += acknowledged - self._acknowledged
        self._acknowledged = acknowledged

    def _measure(self, channel: Channel) -> None:
        session, now = channel.session, channel.session.clock.now()
        nbytes = session.flow.acknowledged
        if self._rate is None or self._queued:  # while our own link is busy the peer owes nothing
            self._rate = Rate(now, nbytes, session.limits)
            return
        rate = self._rate.check(now, nbytes, session.flow.resumed)
        if rate is not None:
            error = self._rate.error(channel.peer, channel.topic, rate)
            channel.give_up(error, str(error), ResetCode.TOO_SLOW)

    def _disarm(self) -> None:
        self._debt = None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _stalled(self, channel: Channel, idle: float) -> None:
        self._watch = None
        if self._was_busy(channel):
            self._arm(channel)
            return
        numbers, limits = channel.statistics(), channel.session.limits
        rate = math.inf if self._debt is None else self._debt.rate(idle)
        if rate + PIECE_BYTES / idle < limits.min_rate:  # what is not a whole piece is not told
            slow = BelowMinRate(channel.peer, channel.topic, rate, limits.min_rate, idle)
            channel.give_up(slow, str(slow), ResetCode.TOO_SLOW)
            return
        error: FlareError = AckStalled(
            channel.peer, channel.topic, numbers.sent, numbers.acknowledged, idle
        )
        channel.give_up(error, "acknowledgements stopped")

    def _was_busy(self, channel: Channel) -> bool:
        """Whether our own link was busy with others, so that the peer owed nothing meanwhile."""
        session = channel.session
        if session.machine.sendable(channel.id):
            until = session.clock.now()
        elif self._queued:
            until = session.sent_at
        else:
            return False
        return self._debt is not None and self._debt.excuse(until)


def wake_senders(session: Session) -> None:
    """Wake those whose bytes have left: no acknowledgement may come for what is not read yet."""
    for number, waiter in (session.flow.senders or {}).items():
        if not session.machine.unsent(number):
            wake(waiter)


def wake(future: asyncio.Future[None] | None) -> None:
    """Wake a waiter that still waits."""
    if future is not None and not future.done():
        future.set_result(None)
