"""The receiving half of a channel: an inbox or leased memory, and one waiter."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

import anyio
from anyio.abc import ObjectReceiveStream

from flare_async.errors import AckStalled, FlareError, LocalProtocolError
from flare_async.net.flow import Arrival
from flare_async.net.outflow import wake
from flare_async.net.rate import Demand
from flare_async.wire.frames import ResetCode

if TYPE_CHECKING:
    from flare_async.net.session import Session
    from flare_async.wire.session import ChannelStatistics

__all__ = ["Chunk", "Inflow", "Onward", "Taker"]

Chunk: TypeAlias = bytes | bytearray | memoryview


class Taker(Protocol):
    """Takes the bytes of one channel as they arrive; nothing of it may block.

    A ``FlareError`` that it raises fails the channel, and no other.
    """

    def room(self, offset: int, length: int) -> memoryview | None:
        """Return memory for the next bytes, or for the first of them; None where there is none."""

    def landed(self, offset: int, length: int) -> None:
        """Take note that bytes were written into the memory of ``room``."""

    def take(self, offset: int, payload: Chunk) -> None:
        """Take bytes that arrived in memory of their own."""


class Onward(Taker, Protocol):
    """Passes on what arrives on a channel; nothing of it may block.

    The bytes count as consumed when ``Session.consumed`` is told so.
    """

    def ended(self, trailer: bytes) -> None:
        """Take note that the peer has ended its direction, behind all that was taken."""

    def credited(self) -> None:
        """Take note that the peer has acknowledged more of what it was sent."""


class Inflow(ObjectReceiveStream[Chunk]):
    """What ``Channel`` inherits instead of owning: it costs no further object a channel."""

    for_site = ""  # whom the peer opened it for, if for somebody behind this side
    hops = 0  # how often it may be passed on
    origin = ""  # who opened it, if not the session's own peer: hops on the way vouch for that
    # Of the class, because most channels never change them, and there are thousands a second.
    trailer = b""
    failed: FlareError | None = None
    lands = False  # whether what arrives may have memory to land in
    _onward: Onward | None = None
    _landed = 0
    _arrival: Arrival | None = None  # since somebody waits with patience
    _inbox: deque[Chunk] | None = None
    _lease: memoryview | None = None
    _on_landed: Callable[[int, int], None] | None = None
    _ended = False
    _collects = False
    taker: Taker | None = None  # who takes what arrives, also with memory of its own
    _receiver: asyncio.Future[None] | None = None
    _rate: Demand | None = None

    def __init__(self, session: Session, number: int, topic: str) -> None:
        self.session = session
        self.id = number
        self.topic = topic

    @property
    def peer(self) -> str:
        """The name of the site or server on the other side."""
        return self.origin or self.session.peer

    @property
    def ended_there(self) -> bool:
        """Whether the peer has ended its direction."""
        return self._ended

    def statistics(self) -> ChannelStatistics:
        """Return bytes sent, acknowledged, received, consumed and unsent."""
        return self.session.machine.statistics(self.id)

    @abstractmethod
    def give_up(self, error: FlareError, message: str, code: ResetCode = ResetCode.STALLED) -> None:
        """Reset towards the peer and fail here with ``error``."""

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
        """Return the next bytes like ``receive``, but bounded as ``landed`` is.

        Raises:
            AckStalled: nothing arrived for ``stall_timeout`` seconds; the channel is reset.
        """
        return await self._receive(self.session.limits.stall_timeout)

    def lease(self, view: memoryview, on_landed: Callable[[int, int], None] | None = None) -> None:
        """Let arriving bytes land in ``view``, which starts at the stream's first byte.

        Call it before the peer can send: right after ``open``. The bytes are untrusted until
        verified, and one more than the view has room for is an error of this channel.
        ``on_landed(offset, length)`` is told of each piece; it must not block.
        """
        if self._inbox or self._landed:
            raise LocalProtocolError(f"{self!r} has received before it was leased")
        self._lease = view
        self.lands = True
        self._on_landed = on_landed
        self.session.machine.lease(self.id, len(view))

    def lease_from(self, taker: Taker, total: int) -> None:
        """Ask ``taker`` for memory as bytes arrive: at most ``total``, as with a lease of them.

        Memory is asked for again whenever the last piece is full. Call it as ``lease`` is called.
        """
        if self._inbox or self._landed:
            raise LocalProtocolError(f"{self!r} has received before it was leased")
        self.taker = taker
        self.lands = True
        self.session.machine.lease(self.id, total)

    def pass_to(self, onward: Onward) -> None:
        """Give what has arrived, and all that arrives from now on, to ``onward``."""
        self.taker = self._onward = onward
        self.lands = True
        for chunk in self.collected():
            self._take(onward, chunk)
        if self._ended:
            onward.ended(self.trailer)

    def pass_nowhere(self) -> None:
        """Let go of whoever passes on what arrives; for a channel that is over."""
        self.taker = self._onward = None

    def collect(self, nbytes: int) -> None:
        """Keep arriving payloads for ``collected``: at most ``nbytes``, as with a lease of them."""
        self._collects = True
        self.session.machine.lease(self.id, nbytes)

    def collected(self) -> list[Chunk]:
        """Return, once, what a collecting channel has kept."""
        chunks, self._inbox = list(self._inbox or ()), None
        return chunks

    async def landed(self) -> bytes:
        """Wait until the peer has ended its direction; return the closing frame's trailer.

        Bounded by bytes that arrive: ``stall_timeout`` after the last one it gives up. Those of
        other channels count for a while, because a slow link brings ours in turn (``Arrival``).

        Raises:
            AckStalled: nothing arrived for ``stall_timeout`` seconds; the channel is reset.
            ChannelReset: the peer gave the channel up.
            RemoteProtocolError: more arrived than the memory holds; the channel is reset.
            LinkError: the link was lost.
        """
        while not self._ended:
            if self.failed is not None:
                raise self.failed
            await self._park(self.session.limits.stall_timeout)
        return self.trailer

    # What the session tells

    def arrived(self, payload: Chunk) -> None:
        """Take payload that landed in no lease."""
        if self._arrival is not None:
            self._arrival.feed(self.session.clock.now())
        if self.taker is not None:
            self._take(self.taker, payload)
        else:
            if self._inbox is None:
                self._inbox = deque()
            self._inbox.append(payload)
            if self._receiver is not None and not self._collects:
                wake(self._receiver)
        if self._rate is not None:
            self._rate.moved()

    def landed_piece(self, length: int) -> None:
        """Take note of bytes that landed in the lease."""
        if self._arrival is not None:
            self._arrival.feed(self.session.clock.now())
        offset, self._landed = self._landed, self._landed + length
        if self._on_landed is not None:
            self._on_landed(offset, length)
        elif self.taker is not None:
            try:
                self.taker.landed(offset, length)
            except FlareError as exc:
                self._cannot_take(exc)
        if self._rate is not None:
            self._rate.moved()

    def destination(self, offset: int, length: int) -> memoryview | None:
        """Say where bytes of the stream may land: never over those that have."""
        if offset < self._landed:
            return None
        if self.taker is not None:
            try:
                return self.taker.room(offset, length)
            except FlareError as exc:
                self._cannot_take(exc)
                return None
        if self._lease is None or offset >= len(self._lease):
            return None
        return self._lease[offset : offset + length]

    def ended(self, trailer: bytes) -> None:
        """Take note that the peer has ended its direction."""
        self._ended = True
        self.trailer = trailer
        if self._receiver is not None:
            wake(self._receiver)
        if self._onward is not None:
            self._onward.ended(trailer)

    # Internals

    def _take(self, taker: Taker, payload: Chunk) -> None:
        offset = self._landed
        self._landed += len(payload)
        try:
            taker.take(offset, payload)
        except FlareError as exc:
            self._cannot_take(exc)

    def _cannot_take(self, error: FlareError) -> None:
        # A full disk is the trouble of this channel: the session goes on for the others.
        self.give_up(error, "cannot be taken", ResetCode.INTERNAL)

    async def _receive(self, patience: float | None) -> Chunk:
        while not self._inbox:
            if self._ended:
                raise anyio.EndOfStream
            if self.failed is not None:
                raise self.failed
            await self._park(patience)
        chunk = self._inbox.popleft()
        self._inbox = self._inbox or None
        if self.id in self.session.channels:
            self.session.consumed(self.id, len(chunk))
        return chunk

    async def _park(self, patience: float | None) -> None:
        if self._receiver is not None:
            raise LocalProtocolError(f"{self!r} already has a receiver")
        self._receiver = future = self.session.new_future()
        try:
            if patience is not None and self.session.limits.min_rate:
                self._rate = self._rate or Demand(self)
                self._rate.begin()
            if patience is None:
                await future
            else:
                if self._arrival is None:
                    self._arrival = Arrival(self.session.clock.now(), self.session.flow)
                await self.session.watchdog.wait(future, self._arrival, patience, self._silent)
        except AckStalled as exc:
            self.give_up(exc, "nothing arrived")
            raise
        finally:
            self._receiver = None
            if self._rate is not None:
                self._rate.end()

    def _silent(self, idle: float) -> AckStalled:
        numbers = self.statistics()
        return AckStalled(self.peer, self.topic, numbers.received, numbers.consumed, idle)
