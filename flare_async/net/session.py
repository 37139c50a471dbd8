"""One peer over one link: opens and accepts channels, moves frames, notices a lost link."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import anyio

from flare_async.errors import (
    FlareError,
    HandshakeFailed,
    LinkLost,
    LocalProtocolError,
    RemoteProtocolError,
)
from flare_async.net.channel import Channel
from flare_async.net.dispatch import handle, land
from flare_async.net.endpoint import Endpoint
from flare_async.net.flow import Flow
from flare_async.net.heartbeat import Heartbeat
from flare_async.net.link import Link
from flare_async.net.lobby import Lobby
from flare_async.net.pump import Pump
from flare_async.wire.events import Opened
from flare_async.wire.frames import Data, Frame, Hello, Landed, ResetCode
from flare_async.wire.session import OpenOptions, SessionMachine, Side
from flare_async.wire.windows import CreditBudget

__all__ = ["Session"]


class Session:
    """Channels to one peer, over one link, as long as the ``async with`` block lasts.

    Entering waits for the peer's hello, bounded by ``handshake_timeout``; leaving says goodbye and
    closes the link, bounded by ``shutdown_timeout``. Iterating yields the channels that the peer
    opens, except those whose topic has a handler (``serve``).

    Raises:
        HandshakeFailed: the peer's hello did not come in time, or does not fit.
    """

    def __init__(self, link: Link, side: Side, endpoint: Endpoint) -> None:
        self.clock = endpoint.clock
        self.limits = endpoint.limits
        self.watchdog = endpoint.watchdog
        self.random = endpoint.random
        self.link = link
        self.peer = link.address
        self.hello: Hello | None = None
        self.error: FlareError | None = None
        self._endpoint = endpoint
        self._ended = False
        self.channels: dict[int, Channel] = {}
        self.flow = Flow(self.clock.now(), self.limits)
        self._lobby = Lobby(self.limits.channels)
        self._loop = asyncio.get_running_loop()
        self.machine = SessionMachine(
            side,
            self.limits,
            sys.maxsize if link.by_reference else min(link.frame_bytes, self.limits.frame_bytes),
            CreditBudget(self.limits.link_bytes, endpoint.budget, self._credit_freed),
        )
        self._pump = Pump(link, self.machine, self.limits, self._poison)
        self._pump.bind(endpoint.clock, endpoint.watchdog, endpoint.tasks)
        self._heartbeat = Heartbeat(endpoint.clock, self.limits, self._ping, self._silent)

    def __repr__(self) -> str:
        return f"<Session of {self._endpoint.name} with {self.peer}>"

    async def __aenter__(self) -> Self:
        """Exchange hellos."""
        limits = self.limits
        accepts = sys.maxsize if self.link.by_reference else limits.frame_bytes
        self.machine.hello(self._endpoint.hello(accepts))
        self.link.start(self)
        # What lives in this process cannot fall silent, nor what has just told that it has ended.
        if not self.link.by_reference and not self._ended:
            self._heartbeat.start()
        self.flush()
        try:
            with anyio.move_on_after(limits.handshake_timeout):
                while self.hello is None and not self._ended:
                    await self._lobby.wait()
        except BaseException:
            self.end(self.error)
            self.link.abort()
            raise
        if self.hello is not None and not self._ended:
            return self
        error = self._handshake_error()
        self.end(error)
        await self._close_link()  # politely: what was said to the peer may still wait to leave
        raise error

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Say goodbye and close the link; bounded by ``shutdown_timeout``, then by force."""
        if not self._ended:
            self.machine.leave(0, "done")
            self._pump.finish()
            self.end(None)
        await self._close_link()

    def __aiter__(self) -> Self:
        """Return itself: iterating yields the channels that the peer opens."""
        return self

    async def __anext__(self) -> Channel:
        """Wait for ever for the peer's next channel; the heartbeat ends it when the link dies.

        Raises:
            LinkError: the link was lost.
        """
        while not self._lobby.channels:
            if self._ended:
                if self.error is not None:
                    raise self.error
                raise StopAsyncIteration
            await self._lobby.wait()
        return self._lobby.channels.popleft()

    def serve(self, topic: str, handler: Callable[[Channel], None]) -> None:
        """Give channels of ``topic`` to ``handler`` at once, on the reading path.

        The handler must neither block nor raise.
        """
        self._lobby.serve(topic, handler)

    def open(self, topic: str, header: bytes = b"", options: OpenOptions | None = None) -> Channel:
        """Open a channel; data may be queued at once. Raises the session's error when it ended."""
        if self._ended:
            raise self.error or LinkLost(self.peer, "the session has ended")
        options = options or OpenOptions()
        number = self.machine.open(topic, header, options=options)
        channel = Channel(self, number, topic, urgent=options.urgent)
        if options.end:
            channel.sends_nothing()
        self.channels[number] = channel
        self.flush()
        return channel

    @property
    def ended(self) -> bool:
        """Whether the session is over; ``error`` says why when it was not orderly."""
        return self._ended

    # For channels

    def new_future(self) -> asyncio.Future[None]:
        """Return a bare wake-up; it never carries an item."""
        return self._loop.create_future()

    def consumed(self, number: int, nbytes: int) -> None:
        """Take note that the application has consumed bytes of a channel."""
        for event in self.machine.consume(number, nbytes, self.clock.now()):
            handle(self, event)
        self.flush()

    def is_open(self, number: int) -> bool:
        """Whether the channel is still in the table."""
        return number in self.channels

    def forget(self, number: int) -> None:
        """Drop a channel that was reset here."""
        self.channels.pop(number, None)

    def flush(self) -> None:
        """Send what may be sent now; never blocks."""
        self._pump.flush()

    # For the link

    def receive(self, frames: Sequence[Frame | Landed]) -> None:
        """Judge what one read brought and hand the events on."""
        if self._ended:
            return
        now = self.clock.now()
        if not frames:
            self._heartbeat.moved = now
            self.flow.feed(now, 0)
            return
        self._heartbeat.heard = now
        try:
            for frame in frames:
                self._receive(frame)
        except RemoteProtocolError as exc:
            self._refuse(exc)
        except Exception as exc:
            # A bug of ours: whoever waits on this session must not wait for ever because of it.
            self._poison(LocalProtocolError(f"{self!r}: {type(exc).__name__}: {exc}"))
            raise
        if self.machine.has_frames:
            self.flush()

    def destination(self, channel: int, offset: int, length: int) -> memoryview | None:
        """Say where payload bytes may land; a channel that is gone has no say."""
        found = self.channels.get(channel)
        return None if found is None else found.destination(offset, length)

    def lost(self, error: FlareError | None) -> None:
        """End the session, because its link has ended."""
        if not self._ended:
            if isinstance(error, RemoteProtocolError):
                self._refuse(error)
            else:
                self.end(error or LinkLost(self.peer, "the connection ended without a goodbye"))

    # Internals

    def _receive(self, frame: Frame | Landed) -> None:
        if self._ended:
            return
        if isinstance(frame, Landed):
            self.flow.feed(self._heartbeat.heard, frame.length)
        elif isinstance(frame, Data) and frame.payload:
            frame = land(self, frame, self._heartbeat.heard)
        for event in self.machine.receive(frame, self._heartbeat.heard):
            handle(self, event)

    # For events

    def greeted(self, hello: Hello) -> None:
        """Take the peer's hello."""
        self.hello = hello
        self.peer = hello.peer
        self._lobby.wake()

    def accept(self, event: Opened) -> None:
        """Hand a channel that the peer opened to its topic's handler, or queue it."""
        channel = Channel(self, event.channel, event.topic, urgent=event.urgent)
        channel.header = event.header
        if event.end:
            channel.ended(b"")
        self.channels[event.channel] = channel
        self._lobby.admit(channel)

    def _refuse(self, error: RemoteProtocolError) -> None:
        self.machine.leave(int(ResetCode.PROTOCOL), error.reason)
        self._pump.finish()
        self.end(error)  # the owner of the block closes the link, after what was just queued

    def end(self, error: FlareError | None) -> None:
        """End the session and fail its channels; None is an orderly end."""
        if self._ended:
            return
        self._ended = True
        self.error = error
        self._heartbeat.stop()
        self._pump.stop()
        reason = error or LinkLost(self.peer, "the session has ended")
        self.machine.close()
        channels, self.channels = self.channels, {}
        for channel in channels.values():
            channel.fail(reason)
        self._lobby.wake()

    async def _close_link(self) -> None:
        with anyio.CancelScope(shield=True), anyio.move_on_after(self.limits.shutdown_timeout):
            await self.link.aclose()
        self.link.abort()

    def _credit_freed(self) -> None:
        self._loop.call_soon(self._feed)  # whoever gives credit back is in the middle of something

    def _feed(self) -> None:
        self.flush()
        self.machine.await_credit()

    def _ping(self) -> None:
        self.machine.ping(0)
        self.flush()

    def _silent(self, seconds: float) -> None:
        self._poison(LinkLost(self.peer, f"silent for {seconds:.1f} s"))

    def _poison(self, error: FlareError) -> None:
        self.end(error)
        self.link.abort()

    def _handshake_error(self) -> FlareError:
        if isinstance(self.error, RemoteProtocolError):
            return HandshakeFailed(self.link.address, str(self.error))
        if self._ended:
            return HandshakeFailed(self.link.address, str(self.error or "it left at once"))
        seconds = self.limits.handshake_timeout
        return HandshakeFailed(self.link.address, f"sent no hello within {seconds:g} s")
