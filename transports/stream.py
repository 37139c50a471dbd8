"""A link over any stream socket: bytes go straight from and into the tensors' own memory.

Receiving uses ``asyncio.BufferedProtocol``: the decoder offers the destination tensor's memory, or
a small scratch buffer for heads, so the kernel's copy is the only one. Reading is never paused:
credit alone bounds what a peer may send. Sending hands ``[head, payload, ...]`` to the transport,
whose marks are set to about one frame, so that a control frame never waits behind more than that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

from flare_async.errors import RemoteProtocolError
from flare_async.limits import KIB, MIB, Limits
from flare_async.net.link import LinkReceiver
from flare_async.transports.accept import AcceptQueue
from flare_async.transports.byte_link import ByteLink, shown_address
from flare_async.wire.codec import encode
from flare_async.wire.frames import Frame, Landed

__all__ = ["LOCAL_FRAME", "REMOTE_FRAME", "StreamLink", "StreamListener"]

LOCAL_FRAME = 1 * MIB  # on one machine, where a frame passes in a fraction of a millisecond
REMOTE_FRAME = 256 * KIB  # 21 ms at 100 Mbit/s: what a control frame may have to wait
ACCEPT_QUEUE = 1024
SMALL_PARTS = 16 * KIB  # joining costs less than one more buffer for the kernel


class StreamLink(ByteLink):
    """Frames over one stream socket."""

    def __init__(
        self, limits: Limits, frame_bytes: int, on_made: Callable[[StreamLink], None] | None = None
    ) -> None:
        super().__init__(limits, frame_bytes)
        self._on_made = on_made
        self._gathers = False
        self._early: list[Frame | Landed] = []

    # What asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = stream = cast("asyncio.Transport", transport)
        # uvloop sends a list of buffers without joining them, asyncio before 3.12 joins.
        self._gathers = type(stream).__module__.startswith("uvloop")
        mark = max(256 * KIB, self.frame_bytes)
        stream.set_write_buffer_limits(high=mark, low=mark // 4)
        if self.address == "unknown":
            self.address = shown_address(stream.get_extra_info("peername"))
        if self._on_made is not None:
            self._on_made(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes belong; never empty."""
        return self._decoder.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Decode what was read and push the frames into the session."""
        try:
            frames = self._decoder.advance(nbytes)
        except RemoteProtocolError as exc:
            self._end(exc)
            return
        if self._receiver is not None:
            self._receiver.receive(frames)
        elif self._transport is not None and not self._lost:
            # Nobody has started the link yet: one read of scratch is all that is kept for it.
            self._early += frames
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """Take the end of the stream; asyncio closes the transport next."""
        try:
            self._decoder.eof()
        except RemoteProtocolError as exc:
            self._end(exc)

    # What a session asks

    def start(self, receiver: LinkReceiver) -> None:
        """Begin to read."""
        early, self._early = self._early, []
        if early:
            receiver.receive(early)
        if self._lost:
            receiver.lost(self._error)
            return
        self._receiver = receiver
        if self._transport is not None and not self._transport.is_reading():
            self._transport.resume_reading()

    def send_soon(self, frames: Sequence[Frame]) -> None:
        """Hand the frames to the transport; dropped when the link has ended."""
        if self._lost or self._closing or self._transport is None:
            return
        parts: list[bytes | memoryview] = []
        for frame in frames:
            head, payload = encode(frame)
            parts.append(head)
            if payload:
                parts.append(payload)
        if self._gathers:
            self._transport.writelines(parts)
        else:
            self._write_joined(parts)

    # Internals

    def _half_close(self, transport: asyncio.Transport) -> None:
        if self._receiver is None or not transport.can_write_eof():
            transport.close()
        elif not self._closing and not transport.is_closing():
            transport.write_eof()
        self._closing = True

    def _write_joined(self, parts: list[bytes | memoryview]) -> None:
        transport = self._transport
        if transport is None:
            return
        small: list[bytes | memoryview] = []
        for part in parts:
            if len(part) <= SMALL_PARTS:
                small.append(part)
                continue
            if small:
                transport.write(b"".join(small))
                small = []
            transport.write(part)
        if small:
            transport.write(b"".join(small))


class StreamListener(AcceptQueue[ByteLink]):
    """Accepts stream links; refuses when ``ACCEPT_QUEUE`` of them wait."""

    def __init__(self) -> None:
        super().__init__(ACCEPT_QUEUE)
        self.address = ""
        self._server: asyncio.AbstractServer | None = None

    def serve(self, server: asyncio.AbstractServer, address: str) -> None:
        """Say which server feeds this listener."""
        self._server = server
        self.address = address

    def made(self, link: ByteLink) -> None:
        """Queue a new link, or refuse it."""
        if not self.offer(link):
            link.abort()

    async def aclose(self) -> None:
        """Stop listening; what waits to be accepted is refused."""
        if self._server is not None:
            self._server.close()
        self.close()
