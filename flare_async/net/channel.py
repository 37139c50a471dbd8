"""One byte stream in each direction between two peers, with credit and progress timestamps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from anyio.abc import ObjectStream

from flare_async.errors import ChannelReset, FlareError, LocalProtocolError
from flare_async.net.inflow import Chunk, Inflow
from flare_async.net.outflow import Outflow, wake
from flare_async.wire.frames import ResetCode

if TYPE_CHECKING:
    from flare_async.net.session import Session

__all__ = ["Channel", "Chunk"]


class Channel(Inflow, ObjectStream[Chunk]):
    """A byte stream in each direction; chunk borders carry no meaning.

    One task may send and one may receive at a time. ``topic`` and ``header`` came with the open.
    A channel ends when both directions have ended and everything was acknowledged, or by a reset
    of either side. Not created directly: ``Session.open`` and iterating over a session make them.

    Its owner may set ``on_failed``, called once if the channel fails, and ``on_over``, called with
    the channel once nothing more can happen on it; neither may block.
    """

    header = b""
    on_failed: Callable[[], None] | None = None
    on_over: Callable[[Channel], object] | None = None
    _done = False

    def __init__(self, session: Session, number: int, topic: str, *, urgent: bool) -> None:
        super().__init__(session, number, topic)
        self.urgent = urgent
        self._out = Outflow()

    def __repr__(self) -> str:
        return f"<Channel {self.id} {self.topic} of {self.session.peer}>"

    @property
    def is_open(self) -> bool:
        """Whether anything can still happen on the channel."""
        return not self._done and self.failed is None

    @property
    def ending(self) -> bool:
        """Whether this side has ended its direction."""
        return self._out.ended

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

    def send_last(self, chunk: Chunk, trailer: bytes = b"") -> None:
        """Queue ``chunk`` as ``send_soon`` does and end this direction, in one frame if it fits.

        Raises:
            FlareError: the channel has failed.
            LocalProtocolError: this direction has ended.
        """
        self._check_may_send()
        self.session.machine.send_all(self.id, (chunk,), trailer)
        self._out.ended = True
        self._out.queued(self)

    def send_all(self, chunks: Iterable[Chunk], *, last: bool = False) -> None:
        """Queue several chunks as ``send_soon`` does, in one go; ``last`` ends this direction.

        Raises:
            FlareError: the channel has failed.
            LocalProtocolError: this direction has ended.
        """
        self._check_may_send()
        self.session.machine.send_all(self.id, chunks, b"" if last else None)
        self._out.ended = last
        self._out.queued(self)

    def answered(self) -> None:
        """Take note that the peer's answer shows that it has read all that was sent."""
        self.session.machine.answered(self.id)

    async def send_eof(self) -> None:
        """End this direction after what is queued; waits for nothing."""
        if not self._out.ended:
            self.end()

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

    def credited(self) -> None:
        """Take note that the peer has acknowledged more."""
        self._out.credited(self)
        if self._onward is not None:
            self._onward.credited()

    def finished(self) -> None:
        """Take note that both directions have ended and all was acknowledged."""
        self._done = True
        self._lease = None
        self.on_failed = None
        self._out.stop()
        if self._receiver is not None:
            wake(self._receiver)
        if self.on_over is not None:
            self._tell_over()

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
        self._tell_over()

    def give_up(self, error: FlareError, message: str, code: ResetCode = ResetCode.STALLED) -> None:
        """Reset towards the peer and fail here with ``error``."""
        if self.session.is_open(self.id):
            self.session.machine.reset(self.id, int(code), message)
            self.session.forget(self.id)
        self.fail(error)
        self.session.flush()

    # Internals

    def _tell_over(self) -> None:
        on_over, self.on_over = self.on_over, None
        if on_over is not None:
            on_over(self)

    def _check_may_send(self) -> None:
        if self.failed is not None:
            raise self.failed
        if self._out.ended:
            raise LocalProtocolError(f"{self!r}: this direction has ended")
