"""What the links over one stream socket have in common: who listens to them, and how they end."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Sequence

from flare_async.errors import FlareError, LinkLost
from flare_async.limits import Limits
from flare_async.net.link import LinkReceiver
from flare_async.wire.codec import Decoder
from flare_async.wire.frames import Frame

__all__ = ["ByteLink", "shown_address"]


class ByteLink(asyncio.BufferedProtocol):
    """The receiver, the waiters and the end of a link; what it reads and writes is its subclass's.

    A link is *lost* once its session has been told, and *gone* when the socket is closed: between
    the two the last words to the peer may still wait to leave.
    """

    by_reference = False
    identity: str | None = None

    def __init__(self, limits: Limits, frame_bytes: int) -> None:
        self.frame_bytes = frame_bytes
        self.address = "unknown"
        self._transport: asyncio.Transport | None = None
        self._receiver: LinkReceiver | None = None
        self._decoder = Decoder(self._destination, limits=limits)
        self._error: FlareError | None = None
        self._paused = False
        self._lost = False
        self._gone = False
        self._closing = False
        self._waiters: list[asyncio.Future[None]] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self.address}>"

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
        self._leave(error)

    @property
    def writable(self) -> bool:
        """Whether the write buffer is below its mark."""
        return not self._paused and not self._lost

    @property
    def pending(self) -> int:
        """Bytes in the write buffer."""
        transport = self._transport
        return 0 if transport is None or self._lost else transport.get_write_buffer_size()

    @abstractmethod
    def start(self, receiver: LinkReceiver) -> None:
        """Begin to deliver."""

    @abstractmethod
    def send_soon(self, frames: Sequence[Frame]) -> None:
        """Send the frames; dropped when the link has ended."""

    async def wait_writable(self) -> None:
        """Wait until the write buffer has room or the link has ended."""
        while not (self._lost or self.writable):
            await self._wake_up()

    def abort(self) -> None:
        """End the link now, dropping what is unsent."""
        if self._transport is not None and not self._gone:
            self._transport.abort()
        self._end(None)

    async def aclose(self) -> None:
        """Send what is pending and wait for the peer's end of the stream; cancelling aborts.

        A socket that closes with bytes unread is reset, and what the peer had not read is lost. So
        reading goes on; what comes is for a session that has ended.
        """
        if self._transport is None:
            return
        if not self._lost:
            self._half_close(self._transport)
        try:
            while not self._gone:
                await self._wake_up()
        except asyncio.CancelledError:
            self.abort()
            raise

    @abstractmethod
    def _half_close(self, transport: asyncio.Transport) -> None:
        """Send what is pending, then the end of our stream."""

    def _destination(self, channel: int, offset: int, length: int) -> memoryview | None:
        receiver = self._receiver
        return None if receiver is None else receiver.destination(channel, offset, length)

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
            self._close_transport(self._transport)
        self._wake()

    def _close_transport(self, transport: asyncio.Transport) -> None:
        transport.close()

    def _leave(self, error: FlareError | None) -> None:
        """Take note that the socket is closed."""
        self._gone = True
        self._end(error)
        self._wake()

    async def _wake_up(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        try:
            await future
        finally:
            if future in self._waiters:
                self._waiters.remove(future)

    def _wake(self) -> None:
        for future in self._waiters:
            if not future.done():
                future.set_result(None)


def shown_address(peername: object, scheme: str = "tcp") -> str:
    """Return a peer's socket address for messages."""
    match peername:
        case (str(host), int(port), *_):
            return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
        case _:
            return "unix://peer"
