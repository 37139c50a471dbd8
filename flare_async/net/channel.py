"""One byte stream in each direction between two peers, with credit and progress timestamps."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import anyio
from anyio.abc import ObjectStream

from flare_async.errors import AckStalled, ChannelReset, FlareError, LocalProtocolError
from flare_async.net.outflow import Outflow, wake
from flare_async.net.watchdog import Progress
from flare_async.wire.frames import ResetCode

if TYPE_CHECKING:
    from flare_async.net.session import Session
    from flare_async.wire.session import ChannelStatistics

__all__ = ["Channel", "Chunk"]

Chunk: TypeAlias = bytes | bytearray | memoryview


class Channel(ObjectStream[Chunk]):
    """A byte stream in each direction; chunk borders carry no meaning.

    One task may send and one may receive at a time. ``topic`` and ``header`` came with the open.
    A channel ends when both directions have ended and everything was acknowledged, or by a reset
    of either side. Not created directly: ``Session.open`` and iterating over a session make them.
    """

    def __init__(self, session: Session, number: int, topic: str, *, urgent: bool) -> None:
        self.session = session
        self.id = number
        self.topic = topic
        self.urgent = urgent
        self.header = b""
        self.trailer = b""
        self.failed: FlareError | None = None
        self.on_failed: Callable[[], None] | None = None
        self._landed = 0
        self._arrival = Progress(session.clock.now())
        self._inbox: deque[Chunk] | None = None
        self._lease: memoryview | None = None
        self._on_landed: Callable[[int, int], None] | None = None
        self._ended = False
        self._done = False
        self._collects = False
        self._receiver: asyncio.Future[None] | None = None
        self._out = Outflow()

    def __repr__(self) -> str:
        return f"<Channel {self.id} {self.topic} of {self.session.peer}>"

    @property
    def peer(self) -> str:
        """The name of the site or server on the other side."""
        return self.session.peer

    @property
    def is_open(self) -> bool:
        """Whether anything can still happen on the channel."""
        return not self._done and self.failed is None

    def statistics(self) -> ChannelStatistics:
        """Return bytes sent, acknowledged, received, consumed and unsent."""
        return self.session.machine.statistics(self.id)

    # Sending

    def send_soon(self, chunk: Chunk) -> None:
        """Queue a reference to ``chunk`` whole, whatever its length, and return at once.

        The bytes must not change until they are acknowledged. Meant for memory that exists anyway,
        such as a tensor on offer; where memory grows with what is queued, use ``send``.

        Raises:
            FlareError: the channel has failed.
            LocalProtocolError: this direction has ended.
        """
        self._check_may_send()
        self.session.machine.send(self.id, chunk)
        self._out.queued(self)

    async def send(self, item: Chunk) -> None:
        """Send ``item`` and wait until the link has taken all of it.

        Waits for the peer's credit, bounded by acknowledgements that advance (``stall_timeout``).
        Cancelling takes back what has not left yet; the stream then lacks those bytes.

        Raises:
            AckStalled: no acknowledgement advanced for ``stall_timeout`` seconds.
            ChannelReset: the peer gave the channel up.
            LinkError: the link was lost.
        """
        self.send_soon(item)
        try:
            await self.drained()
        except asyncio.CancelledError:
            self._out.withdraw(self)
            raise

    async def drained(self) -> None:
        """Wait until nothing queued is unsent; bounded and failing as ``send`` is."""
        await self._out.drained(self)
        if self.failed is not None:
            raise self.failed

    def end(self, trailer: bytes = b"") -> None:
        """End this direction after what is queued; ``trailer`` travels in the closing frame."""
        self._check_may_send()
        self._out.ended = True
        self.session.machine.end(self.id, trailer)
        self._out.queued(self)

    async def send_eof(self) -> None:
        """End this direction after what is queued; waits for nothing."""
        if not self._out.ended:
            self.end()

    # Receiving

    async def receive(self) -> Chunk:
        """Return the next bytes, as they came; consuming them is what grants new credit.

        Waits as long as the session lives: how long a peer may think is its caller's business, and
        a link that died is noticed by its heartbeat. Cancelling loses nothing.

        Raises:
            anyio.EndOfStream: the peer has ended its direction and everything was received.
            ChannelReset: the peer gave the channel up.
            LinkError: the link was lost.
        """
        return await self._receive(None)

    async def receive_moving(self) -> Chunk:
        """Return the next bytes like ``receive``, but bounded by ``stall_timeout``.

        Raises:
            AckStalled: nothing arrived for ``stall_timeout`` seconds; the channel is reset.
        """
        return await self._receive(self.session.limits.stall_timeout)

    def lease(self, view: memoryview, on_landed: Callable[[int, int], None] | None = None) -> None:
        """Let arriving bytes land in ``view``, which starts at the stream's first byte.

        Call it before the peer can send: right after ``open``. The bytes are untrusted until
        verified. ``on_landed(offset, length)`` is told of each piece; it must not block.
        """
        if self._inbox or self._landed:
            raise LocalProtocolError(f"{self!r} has received before it was leased")
        self._lease = view
        self._on_landed = on_landed
        self.session.machine.lease(self.id)

    def collect(self) -> None:
        """Keep arriving payloads for ``collected``; for channels opened with ``leased``."""
        self._collects = True

    def collected(self) -> list[Chunk]:
        """Return, once, what a collecting channel has kept."""
        chunks, self._inbox = list(self._inbox or ()), None
        return chunks

    async def landed(self) -> bytes:
        """Wait until the peer has ended its direction; return the closing frame's trailer.

        Bounded by bytes that arrive: ``stall_timeout`` after the last one it gives up.

        Raises:
            AckStalled: nothing arrived for ``stall_timeout`` seconds; the channel is reset.
            ChannelReset: the peer gave the channel up.
            LinkError: the link was lost.
        """
        while not self._ended:
            if self.failed is not None:
                raise self.failed
            await self._park(self.session.limits.stall_timeout)
        return self.trailer

    # Ending

    def reset(self, code: ResetCode = ResetCode.CANCELLED, message: str = "") -> None:
        """Give the channel up, both directions at once; harmless when it has ended."""
        if self.is_open:
            error = ChannelReset(self.peer, self.topic, code, message or "given up here")
            self.give_up(error, message, code)

    async def aclose(self) -> None:
        """Give up whatever has not ended yet; waits for nothing."""
        self.reset(ResetCode.CANCELLED, "closed")

    # What the session and the halves tell

    def sends_nothing(self) -> None:
        """Take note that the channel was opened with its own direction already ended."""
        self._out.ended = True

    def arrived(self, payload: Chunk) -> None:
        """Take payload that landed in no lease."""
        self._arrival.feed(self.session.clock.now())
        if self._inbox is None:
            self._inbox = deque()
        self._inbox.append(payload)
        if not self._collects:
            wake(self._receiver)

    def landed_piece(self, length: int) -> None:
        """Take note of bytes that landed in the lease."""
        self._arrival.feed(self.session.clock.now())
        offset = self._landed
        self._landed += length
        if self._on_landed is not None:
            self._on_landed(offset, length)

    def destination(self, offset: int, length: int) -> memoryview | None:
        """Say where bytes of the stream may land."""
        if self._lease is None or offset >= len(self._lease):
            return None
        return self._lease[offset : offset + length]

    def ended(self, trailer: bytes) -> None:
        """Take note that the peer has ended its direction."""
        self._ended = True
        self.trailer = trailer
        wake(self._receiver)

    def credited(self) -> None:
        """Take note that the peer has acknowledged more."""
        self._out.credited(self)

    def finished(self) -> None:
        """Take note that both directions have ended and all was acknowledged."""
        self._done = True
        self._lease = None
        self.on_failed = None
        self._out.stop()
        wake(self._receiver)

    def fail(self, error: FlareError) -> None:
        """Take note that the channel cannot go on; revokes the lease and wakes everybody."""
        first, self._lease = self.is_open, None
        if first:
            self.failed = error
        self._out.stop()
        wake(self._receiver)
        on_failed, self.on_failed = self.on_failed, None
        if on_failed is not None:
            on_failed()

    def give_up(self, error: FlareError, message: str, code: ResetCode = ResetCode.STALLED) -> None:
        """Reset towards the peer and fail here with ``error``."""
        if self.session.is_open(self.id):
            self.session.machine.reset(self.id, int(code), message)
            self.session.forget(self.id)
        self.fail(error)
        self.session.flush()

    # Internals

    def _check_may_send(self) -> None:
        if self.failed is not None:
            raise self.failed
        if self._out.ended:
            raise LocalProtocolError(f"{self!r}: this direction has ended")

    async def _receive(self, patience: float | None) -> Chunk:
        while not self._inbox:
            if self._ended:
                raise anyio.EndOfStream
            if self.failed is not None:
                raise self.failed
            await self._park(patience)
        chunk = self._inbox.popleft()
        if self.session.is_open(self.id):
            self.session.consumed(self.id, len(chunk))
        return chunk

    async def _park(self, patience: float | None) -> None:
        if self._receiver is not None:
            raise LocalProtocolError(f"{self!r} already has a receiver")
        self._receiver = future = self.session.new_future()
        try:
            if patience is None:
                await future
            else:
                await self.session.watchdog.wait(future, self._arrival, patience, self._silent)
        except AckStalled as exc:
            self.give_up(exc, "nothing arrived")
            raise
        finally:
            self._receiver = None

    def _silent(self, idle: float) -> AckStalled:
        numbers = self.statistics()
        return AckStalled(self.peer, self.topic, numbers.received, numbers.consumed, idle)
