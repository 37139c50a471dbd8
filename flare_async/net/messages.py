"""Typed messages over a channel: a four-byte length, then one message of a closed schema."""

from __future__ import annotations

import struct
from typing import Generic, TypeVar

import anyio

from flare_async.errors import RemoteProtocolError
from flare_async.net.channel import Channel
from flare_async.wire.schema import Schema

__all__ = ["Messages"]

MessageT = TypeVar("MessageT")
LENGTH = struct.Struct(">I")


class Messages(Generic[MessageT]):
    """Sends and receives the messages of ``schema``; at most ``control_bytes`` each."""

    __slots__ = ("_buffer", "_schema", "channel")

    def __init__(self, channel: Channel, schema: Schema[MessageT]) -> None:
        self.channel = channel
        self._schema = schema
        self._buffer = b""

    def post(self, message: MessageT) -> None:
        """Queue one message and return at once; for the few messages that end something."""
        self.channel.send_soon(self.framed(message))

    def post_last(self, message: MessageT) -> None:
        """Queue one message and end this direction, and return at once."""
        self.channel.send_last(self.framed(message))

    def framed(self, message: MessageT) -> bytes:
        """Return a message as it is sent."""
        body = self._schema.encode(message)
        return LENGTH.pack(len(body)) + body

    async def send(self, message: MessageT) -> None:
        """Send one message; waits, is bounded and fails as ``Channel.send`` is."""
        self.post(message)
        await self.channel.drained()

    async def receive(self) -> MessageT:
        """Wait for the next message as long as the session lives; cancelling loses nothing.

        Raises:
            anyio.EndOfStream: the peer has ended its direction between two messages.
            RemoteProtocolError: a message is too long or not of the schema.
            ChannelReset: the peer gave the channel up.
            LinkError: the link was lost.
        """
        limits, end = self.channel.session.limits, LENGTH.size
        while True:
            if len(self._buffer) >= LENGTH.size:
                end = LENGTH.size + LENGTH.unpack_from(self._buffer)[0]
                if len(self._buffer) >= end:
                    break
            if end > LENGTH.size + limits.control_bytes:
                raise RemoteProtocolError("message_too_long", f"{end - LENGTH.size} bytes")
            try:
                self._buffer += await self.channel.receive()
            except anyio.EndOfStream:
                if self._buffer:
                    raise RemoteProtocolError("truncated", "a message ends early") from None
                raise
        body, self._buffer = self._buffer[LENGTH.size : end], self._buffer[end:]
        return self._schema.decode(body, limits)
