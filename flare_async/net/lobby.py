"""Channels that the peer has opened and nobody has taken yet, and the one who waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from flare_async.errors import LocalProtocolError
from flare_async.net.callbacks import loop_told
from flare_async.net.channel import Channel
from flare_async.net.outflow import wake
from flare_async.wire.frames import ResetCode

__all__ = ["FORWARDED", "OTHERS", "Lobby"]

FORWARDED = ""  # in place of a topic: whatever is for somebody behind this side
OTHERS = "*"  # in place of a topic: whatever has no handler of its own


class Lobby:
    """Hands channels to the handler of their topic at once, or keeps at most ``room`` of them."""

    __slots__ = ("_handlers", "_room", "_waiter", "channels")

    def __init__(self, room: int) -> None:
        self.channels: list[Channel] = []  # seldom more than one: a deque would be ten times larger
        self._room = room
        self._handlers: dict[str, Callable[[Channel], None]] = {}
        self._waiter: asyncio.Future[None] | None = None

    def serve(self, topic: str, handler: Callable[[Channel], None]) -> None:
        """Give channels of ``topic`` to ``handler``, also those that wait here already."""
        self._handlers[topic] = handler
        if not self.channels:
            return
        others = topic == OTHERS
        waiting = [
            one
            for one in self.channels
            if not one.for_site
            and (one.topic not in self._handlers if others else one.topic == topic)
        ]
        for channel in waiting:
            self.channels.remove(channel)
            _hand(channel, handler)

    def admit(self, channel: Channel) -> None:
        """Take a channel that the peer has just opened; without room for it, it is refused.

        So is one for somebody behind this side, unless it is ``FORWARDED`` by a handler.
        """
        handlers = self._handlers
        handler = handlers.get(FORWARDED if channel.for_site else channel.topic)
        if handler is not None:
            _hand(channel, handler)
        elif channel.for_site:
            channel.reset(ResetCode.REFUSED, "nothing is passed on here")
        elif OTHERS in handlers:
            _hand(channel, handlers[OTHERS])
        elif len(self.channels) >= self._room:
            channel.reset(ResetCode.REFUSED, "too many channels wait to be accepted")
        else:
            self.keep(channel)

    def keep(self, channel: Channel) -> None:
        """Let a channel wait for whoever iterates."""
        self.channels.append(channel)
        self.wake()

    def wake(self) -> None:
        """Let the one who waits look again."""
        wake(self._waiter)

    async def wait(self) -> None:
        """Wait for the next ``wake``; what bounds that is the caller's business.

        Raises:
            LocalProtocolError: somebody else waits.
        """
        if self._waiter is not None:
            raise LocalProtocolError("a session already has somebody who accepts its channels")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


def _hand(channel: Channel, handler: Callable[[Channel], None]) -> None:
    with loop_told():
        handler(channel)
