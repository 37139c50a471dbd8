"""One peer: opens and accepts channels, and outlives the links over which their bytes go."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Self

import anyio

from flare_async.errors import FlareError, LinkLost, RemoteProtocolError
from flare_async.net.attachment import Attachment
from flare_async.net.channel import Channel, Chunk
from flare_async.net.closing import close_link
from flare_async.net.continuity import Continuity, Lifeline, handshake_error
from flare_async.net.dispatch import handle
from flare_async.net.endpoint import Endpoint
from flare_async.net.flow import Flow
from flare_async.net.greeting import told
from flare_async.net.link import Link
from flare_async.net.lobby import Lobby
from flare_async.wire.events import Opened
from flare_async.wire.frames import Frame, Hello, ResetCode
from flare_async.wire.session import DEFAULT_OPTIONS, OpenOptions, SessionMachine, Side
from flare_async.wire.windows import CreditBudget

__all__ = ["Session"]


class Session:
    """Channels to one peer, as long as the ``async with`` block lasts.

    Entering waits for the peer's hello, bounded by ``handshake_timeout``; leaving says goodbye and
    closes the link, bounded by ``shutdown_timeout``. Iterating yields the channels that the peer
    opens, except those whose topic has a handler (``serve``).

    With a ``lifeline`` the session survives the loss of its link for ``session_grace`` seconds:
    channels stay, what is sent meanwhile waits, and on the next link (``resume``) every channel
    goes on at the last byte that arrived. Without one, losing the link ends the session.

    Raises:
        HandshakeFailed: the peer's hello did not come in time, or does not fit.
    """

    def __init__(
        self,
        link: Link,
        side: Side,
        endpoint: Endpoint,
        *,
        lifeline: Lifeline | None = None,
        early: Sequence[Frame] = (),
    ) -> None:
        self.clock = endpoint.clock
        self.limits = endpoint.limits
        self.watchdog = endpoint.watchdog
        self.random = endpoint.random
        self.link = link
        self.peer = link.address
        self.identity = link.identity
        first = early[0] if early else None
        self.id = first.session if isinstance(first, Hello) else endpoint.random.token(16)
        self.hello: Hello | None = None
        self.error: FlareError | None = None
        self.farewell: tuple[int, str] | None = None  # what could not be said for want of a link
        self.endpoint = endpoint
        self._links = Continuity(self, lifeline)
        self._early = early
        self._ended = False
        self.channels: dict[int, Channel] = {}
        self.flow = Flow(self.clock.now(), self.limits)
        self._lobby = Lobby(self.limits.channels)
        self._loop = asyncio.get_running_loop()
        self.machine = SessionMachine(
            side,
            self.limits,
            self._frame_bytes(link),
            CreditBudget(self.limits.link_bytes, endpoint.budget),
            resumable=self.resumable,
        )

    def __repr__(self) -> str:
        return f"<Session of {self.endpoint.name} with {self.peer}>"

    async def __aenter__(self) -> Self:
        """Exchange hellos."""
        self.machine.hello(self._own_hello(self.link))
        early, self._early = self._early, ()
        self._links.attach(self.link, early)
        try:
            with (
                nullcontext() if self.hello else anyio.move_on_after(self.limits.handshake_timeout)
            ):
                while self.hello is None and not self._ended:
                    await self._lobby.wait()
        except BaseException:
            self.end(self.error)
            self.link.abort()
            raise
        if self.hello is not None and not self._ended:
            return self
        error = handshake_error(self, self.link, silent=not self._ended)
        self.end(error)
        await close_link(self.link, self.limits)  # what was said may still wait to leave
        raise error

    async def __aexit__(self, *_: object) -> None:
        """Say goodbye and close the link; bounded by ``shutdown_timeout``, then by force."""
        self.leave(0, "done")
        await close_link(self.link, self.limits)

    def __aiter__(self) -> Self:
        """Return itself: iterating yields the channels that the peer opens."""
        return self

    async def __anext__(self) -> Channel:
        """Wait for the peer's next channel as long as the session lives.

        A dead link is noticed by its heartbeat; without a link, ``session_grace`` ends the wait.

        Raises:
            LinkError: the link was lost for good.
        """
        while not self._lobby.channels:
            if self._ended:
                raise self.error or StopAsyncIteration
            await self._lobby.wait()
        return self._lobby.channels.pop(0)

    def serve(self, topic: str, handler: Callable[[Channel], None]) -> None:
        """Give channels of ``topic`` to ``handler`` at once, on the reading path.

        The handler must neither block nor raise; it may start tasks of a group that is entered.
        """
        self._lobby.serve(topic, handler)

    def keep(self, channel: Channel) -> None:
        """Leave a channel that a handler was given to whoever iterates, whatever waits there."""
        self._lobby.keep(channel)

    def open(
        self,
        topic: str,
        header: bytes = b"",
        options: OpenOptions | None = None,
        behind: Sequence[Chunk] = (),
    ) -> Channel:
        """Open a channel and queue what is ``behind``; raises the session's error if it ended."""
        if self._ended:
            raise self.error or LinkLost(self.peer, "the session has ended")
        options = options or DEFAULT_OPTIONS
        number = self.machine.open(topic, header, options=options)
        channel = Channel(self, number, topic, urgent=options.urgent)
        if options.end:
            channel.sends_nothing()
        self.channels[number] = channel
        if behind:
            channel.send_all(behind)
        else:
            self.flush()
        return channel

    @property
    def ended(self) -> bool:
        """Whether the session is over; ``error`` says why when it was not orderly."""
        return self._ended

    @property
    def attached(self) -> bool:
        """Whether the session has a link now."""
        return self._links.attachment is not None

    @property
    def resumable(self) -> bool:
        """Whether losing the link leaves the session alive for ``session_grace``."""
        return self._links.may_resume

    @property
    def epoch(self) -> int:
        """The number of the latest link; the first one's is 0."""
        return self._links.epoch

    async def resume(self, link: Link, epoch: int, early: Sequence[Frame] = ()) -> None:
        """Go on over ``link``, the session's number ``epoch``; an older link loses its say.

        Waits for the peer's hello and positions, bounded by ``handshake_timeout``. Failing or being
        cancelled leaves the session without a link, as before.

        Raises:
            HandshakeFailed: the peer did not answer in time, or refuses.
            LinkError: the session has ended.
        """
        older = self._links.attachment
        if older is not None:
            older.lose(LinkLost(self.peer, f"{link.address} took its place"))
        if self._ended:
            raise self.error or LinkLost(self.peer, "the session has ended")
        self.link, self._links.epoch = link, epoch
        self.machine.attach(self._own_hello(link), self._frame_bytes(link))
        await self._links.resume(link, early)

    def detach(self, attachment: Attachment, error: FlareError) -> None:
        """Take note that a link is gone; ends the session unless it may get another one."""
        self._links.detach(attachment, error)

    def resumed(self) -> None:
        """Take note that the peer is there again and everything flows."""
        self._links.resumed()

    # For channels

    def new_future(self) -> asyncio.Future[None]:
        """Return a bare wake-up; it never carries an item."""
        return self._loop.create_future()

    def consumed(self, number: int, nbytes: int) -> None:
        """Take note that the application has consumed bytes of a channel."""
        for event in self.machine.consume(number, nbytes, self.clock.now()):
            handle(self, event)
        if self.machine.answers:
            self.flush()

    @property
    def sent_at(self) -> float:
        """When the link took bytes of a channel last; now, if there is no link."""
        attachment = self._links.attachment
        return self.clock.now() if attachment is None else attachment.pump.sent

    def is_open(self, number: int) -> bool:
        """Whether the channel is still in the table."""
        return number in self.channels

    def forget(self, number: int) -> None:
        """Drop a channel that was reset here."""
        self.channels.pop(number, None)

    def flush(self) -> None:
        """Send what may be sent now; never blocks."""
        if self._links.attachment is not None:
            self._links.attachment.pump.flush()

    # For the attachment and for events

    def greeted(self, hello: Hello) -> None:
        """Take the peer's hello."""
        self.hello = hello
        self.peer = hello.peer
        self._lobby.wake()
        self._links.greeted()

    def ponged(self, nonce: int) -> None:
        """Take the peer's answer; any frame counts as a sign of life, and this one as time."""
        self._links.ponged(nonce)

    def accept(self, event: Opened) -> None:
        """Hand a channel that the peer opened to its topic's handler, or queue it."""
        channel = Channel(self, event.channel, event.topic, urgent=event.urgent)
        channel.header, channel.for_site, channel.hops = event.header, event.destination, event.hops
        if event.end:
            channel.ended(b"")
        self.channels[event.channel] = channel
        self._lobby.admit(channel)

    def refuse(self, error: RemoteProtocolError) -> None:
        """End the session because of what the peer did, and tell it so."""
        self.leave(int(ResetCode.PROTOCOL), told(error), error)

    def leave(self, code: int, message: str, error: FlareError | None = None) -> None:
        """Say goodbye and end; the owner of the block closes the link, after what was queued."""
        if not self._ended:
            self.machine.leave(code, message)
            if not self._links.finish():
                self.farewell = (code, message)
            self.end(error)

    def end(self, error: FlareError | None) -> None:
        """End the session and fail its channels; None is an orderly end."""
        if self._ended:
            return
        self._ended = True
        self.error = error
        self._links.end()
        self.machine.close()
        reason = error or LinkLost(self.peer, "the session has ended")
        channels, self.channels = self.channels, {}
        for channel in channels.values():
            channel.fail(reason)
        self._lobby.wake()

    # Internals

    def _own_hello(self, link: Link) -> Hello:
        accepts = sys.maxsize if link.by_reference else self.limits.frame_bytes
        return self.endpoint.hello(accepts, self.id, self._links.epoch)

    def _frame_bytes(self, link: Link) -> int:
        return sys.maxsize if link.by_reference else min(link.frame_bytes, self.limits.frame_bytes)
