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

from flare_async.errors import FlareError, LinkLost, RemoteProtocolError
from flare_async.limits import KIB, MIB, Limits
from flare_async.net.link import LinkReceiver
from flare_async.transports.accept import AcceptQueue
from flare_async.wire.codec import Decoder, encode
from flare_async.wire.frames import Frame, Landed

__all__ = ["LOCAL_FRAME", "REMOTE_FRAME", "StreamLink", "StreamListener"]

LOCAL_FRAME = 1 * MIB  # on one machine, where a frame passes in a fraction of a millisecond
REMOTE_FRAME = 256 * KIB  # 21 ms at 100 Mbit/s: what a control frame may have to wait
ACCEPT_QUEUE = 1024
SMALL_PARTS = 16 * KIB  # joining costs less than one more buffer for the kernel


class StreamLink(asyncio.BufferedProtocol):
    """Frames over one stream socket."""

    by_reference = False
    identity: str | None = None

    def __init__(
        self, limits: Limits, frame_bytes: int, on_made: Callable[[StreamLink], None] | None = None
    ) -> None:
        self.frame_bytes = frame_bytes
        self.address = "unknown"
        self._on_made = on_made
        self._transport: asyncio.Transport | None = None
        self._gathers = False
        self._receiver: LinkReceiver | None = None
        self._decoder = Decoder(self._destination, limits=limits)
        self._early: list[Frame | Landed] = []
        self._error: FlareError | None = None
        self._paused = False
        self._lost = False
        self._closing = False
        self._waiters: list[asyncio.Future[None]] = []

    def __repr__(self) -> str:
        return f"<StreamLink to {self.address}>"

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

    def pause_writing(self) -> None:
        """Take note that the write buffer is full."""
        self._paused = True

    def resume_writing(self) -> None:
        """Take note that the write buffer has room."""
        self._paused = False
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the session, once."""
        error = None if exc is None else LinkLost(self.address, str(exc) or type(exc).__name__)
        self._end(error)

    # What a session asks

    @property
    def writable(self) -> bool:
        """Whether the write buffer is below its mark."""
        return not self._paused and not self._lost

    @property
    def pending(self) -> int:
        """Bytes in the write buffer."""
        transport = self._transport
        return 0 if transport is None or self._lost else transport.get_write_buffer_size()

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

    async def wait_writable(self) -> None:
        """Wait until the write buffer has room or the link has ended."""
        while self._paused and not self._lost:
            future = asyncio.get_running_loop().create_future()
            self._waiters.append(future)
            try:
                await future
            finally:
                if future in self._waiters:
                    self._waiters.remove(future)

    def abort(self) -> None:
        """End the link now, dropping what is unsent."""
        if self._transport is not None and not self._lost:
            self._transport.abort()
        self._end(None)

    async def aclose(self) -> None:
        """Send what is pending and wait for the peer's end of the stream; cancelling aborts.

        A socket that closes with bytes unread is reset, and what the peer had not read is lost. So
        reading goes on; what comes is for a session that has ended.
        """
        if self._transport is None or self._lost:
            return
        self._half_close(self._transport)
        try:
            while not self._lost:
                future = asyncio.get_running_loop().create_future()
                self._waiters.append(future)
                await future
        except asyncio.CancelledError:
            self.abort()
            raise

    # Internals

    def _half_close(self, transport: asyncio.Transport) -> None:
        if self._receiver is None or not transport.can_write_eof():
            transport.close()
        elif not self._closing and not transport.is_closing():
            transport.write_eof()
        self._closing = True

    def _destination(self, channel: int, offset: int, length: int) -> memoryview | None:
        receiver = self._receiver
        return None if receiver is None else receiver.destination(channel, offset, length)

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

    def _end(self, error: FlareError | None) -> None:
        if self._lost:
            return
        # The session may still say why it refuses, so it is told before the transport is closed.
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.lost(error)
        self._lost = True
        self._error = error
        if self._transport is not None:
            self._transport.close()
        self._wake()

    def _wake(self) -> None:
        for future in self._waiters:
            if not future.done():
                future.set_result(None)


def shown_address(peername: object) -> str:
    """Return a peer's socket address for messages."""
    match peername:
        case (str(host), int(port), *_):
            return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
        case _:
            return "unix://peer"


class StreamListener(AcceptQueue[StreamLink]):
    """Accepts stream links; refuses when ``ACCEPT_QUEUE`` of them wait."""

    def __init__(self) -> None:
        super().__init__(ACCEPT_QUEUE)
        self.address = ""
        self._server: asyncio.AbstractServer | None = None

    def serve(self, server: asyncio.AbstractServer, address: str) -> None:
        """Say which server feeds this listener."""
        self._server = server
        self.address = address

    def made(self, link: StreamLink) -> None:
        """Queue a new link, or refuse it."""
        if not self.offer(link):
            link.abort()

    async def aclose(self) -> None:
        """Stop listening; what waits to be accepted is refused."""
        if self._server is not None:
            self._server.close()
        self.close()
