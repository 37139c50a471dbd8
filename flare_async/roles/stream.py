"""The messages on one task's channel, and the end of such a channel."""

from __future__ import annotations

from weakref import WeakSet

import anyio

from flare_async.errors import FlareError, RemoteProtocolError
from flare_async.net.channel import Channel, Chunk
from flare_async.net.messages import Messages
from flare_async.net.session import Session
from flare_async.roles.messages import TASK_SCHEMA, TaskMessage
from flare_async.wire.frames import ResetCode

__all__ = ["Leftovers", "TaskStream"]

KEPT = 4  # tasks later, a site that works in order has long ended its side of this one


class TaskStream(Messages[TaskMessage]):
    """Typed messages of a task's channel; ``finish`` and ``reset`` never raise.

    ``behind`` are the bytes of tensors that follow a message and that nobody has asked for yet.
    """

    __slots__ = ("behind",)

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel, TASK_SCHEMA)
        self.behind = 0

    @property
    def unread(self) -> bool:
        """Whether bytes are here that nobody has received."""
        channel = self.channel
        return bool(self._buffer) or (
            channel.is_open and channel.session.machine.unread(channel.id)
        )

    async def carried(self, nbytes: int) -> list[Chunk]:
        """Return so many bytes that follow the last message, in the pieces that came.

        Bounded by bytes that arrive, as ``Channel.receive_moving`` is. Cancelling loses them.

        Raises:
            RemoteProtocolError: the peer has ended its direction before.
            AckStalled: nothing arrived for ``stall_timeout`` seconds; the channel is reset.
            FlareError: the channel or the link failed.
        """
        self.behind = 0
        chunks: list[Chunk] = []
        if self._buffer:
            chunks.append(self._buffer[:nbytes])
            self._buffer = self._buffer[nbytes:]
            nbytes -= len(chunks[0])
        while nbytes > 0:
            try:
                chunk = await self.channel.receive_moving()
            except anyio.EndOfStream:
                problem = f"tensors end {nbytes} bytes early"
                raise RemoteProtocolError("truncated", problem) from None
            if len(chunk) > nbytes:
                self._buffer = bytes(chunk[nbytes:])
                chunk = chunk[:nbytes]
            chunks.append(chunk)
            nbytes -= len(chunk)
        return chunks

    def tell(self, message: TaskMessage) -> bool:
        """Send a message if the channel still carries one; what it cannot carry resets it."""
        if self.channel.is_open:
            try:
                self.post(message)
            except FlareError as exc:
                self.channel.reset(ResetCode.INTERNAL, exc.code)
        return self.channel.is_open

    def finish(self, message: TaskMessage | None = None) -> None:
        """Send the last message, if there is one, and end this direction."""
        if not self.channel.is_open or self.channel.ending:
            return
        try:
            if message is None:
                self.channel.end()
            else:
                self.post_last(message)
        except FlareError as exc:
            self.channel.reset(ResetCode.INTERNAL, exc.code)

    def reset(self, code: ResetCode, message: str) -> None:
        """Give the channel up; harmless when it has ended."""
        self.channel.reset(code, message)


class Leftovers:
    """Channels of tasks that are over here, until the site has ended its side too.

    Nobody reads them any more, so nobody would notice a site that goes on sending or never ends:
    such a channel would stay open as long as the session.
    """

    def __init__(self) -> None:
        self._over: WeakSet[Channel] = WeakSet()

    def add(self, channel: Channel) -> None:
        """Take note that a task's channel is over on this side."""
        self._over.add(channel)

    def sweep(self, session: Session) -> None:
        """Reset what brought more messages, and all but the latest that were not ended."""
        if not session.channels:
            return
        waiting = [one for one in session.channels.values() if one in self._over]
        for index, channel in enumerate(reversed(waiting)):
            if has_unread(channel):
                channel.reset(ResetCode.PROTOCOL, "a message after the last one")
            elif index >= KEPT:
                channel.reset(ResetCode.CANCELLED, "the task is over")


def has_unread(channel: Channel) -> bool:
    """Return whether bytes arrived on a channel that nobody has received."""
    return channel.is_open and channel.session.machine.unread(channel.id)
