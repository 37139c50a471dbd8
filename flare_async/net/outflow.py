"""The sending half of a channel: queued references, the peer's debt of progress, one waiter."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from flare_async.errors import AckStalled, FlareError
from flare_async.net.watchdog import Progress, Watch

if TYPE_CHECKING:
    from flare_async.net.channel import Channel

__all__ = ["Outflow", "wake"]


class Outflow:
    """Watches that the peer acknowledges, while it can be seen to owe an acknowledgement.

    It owes one while bytes wait for credit, and after the end of a bulk stream. A message that
    waits to be read is no debt, because its reader may be training.
    """

    __slots__ = ("_channel", "_waiter", "_watch", "ended")

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._waiter: asyncio.Future[None] | None = None
        self._watch: Watch | None = None
        self.ended = False

    def queued(self) -> None:
        """Send what may leave and start to watch what may not."""
        self._channel.session.flush()
        self._arm()

    def credited(self) -> None:
        """Take note of an acknowledgement that advanced."""
        self._disarm()
        self._arm()
        wake(self._waiter)

    def stop(self) -> None:
        """Watch no longer; wakes the waiter."""
        self._disarm()
        wake(self._waiter)

    async def drained(self) -> None:
        """Wait until nothing is unsent or the channel has failed."""
        session, number = self._channel.session, self._channel.id
        while self._channel.failed is None and session.machine.unsent(number):
            self._waiter = session.new_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def withdraw(self) -> None:
        """Take back what has not left."""
        if self._channel.session.is_open(self._channel.id):
            self._channel.session.machine.withdraw(self._channel.id)
            self._disarm()

    def _arm(self) -> None:
        channel, session = self._channel, self._channel.session
        if self._watch is not None or not session.is_open(channel.id):
            return
        if session.machine.unsent(channel.id) or self._owes_the_end():
            progress = Progress(session.clock.now())
            patience = session.limits.stall_timeout
            self._watch = session.watchdog.watch(progress, patience, self._stalled)

    def _owes_the_end(self) -> bool:
        # Without a request to wait for, a reader of messages may take its time.
        channel = self._channel
        if not self.ended or channel.urgent:
            return False
        return not channel.session.machine.end_acknowledged(channel.id)

    def _disarm(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _stalled(self, idle: float) -> None:
        self._watch = None
        channel = self._channel
        numbers = channel.statistics()
        error: FlareError = AckStalled(
            channel.peer, channel.topic, numbers.sent, numbers.acknowledged, idle
        )
        channel.give_up(error, "acknowledgements stopped")


def wake(future: asyncio.Future[None] | None) -> None:
    """Wake a waiter that still waits."""
    if future is not None and not future.done():
        future.set_result(None)
