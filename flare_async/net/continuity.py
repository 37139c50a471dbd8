"""How a session gets from one link to the next, and when it gives up.

The connecting side dials again, the accepting side waits for it (``Lifeline``); both go through the
same three states: attached, detached (no link: what is sent waits in the session's machine), and
resuming (a link is there, the two machines compare what has arrived). Each link has a number, its
*epoch*, chosen by the connector and only ever higher than the last, so that a late message of an
older link can never take a newer one's place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import anyio

from flare_async.errors import (
    Dismissed,
    FlareError,
    HandshakeFailed,
    HandshakeRefused,
    LinkLost,
    RemoteProtocolError,
)
from flare_async.net.attachment import MEASURING, Attachment
from flare_async.net.link import Link
from flare_async.net.outflow import wake
from flare_async.ports import Timer
from flare_async.wire.frames import Frame

if TYPE_CHECKING:
    from flare_async.net.session import Session

__all__ = ["Continuity", "Lifeline", "handshake_error"]


class Lifeline(Protocol):
    """Whoever can give a session that lost its link another one."""

    def detached(self, session: Session) -> None:
        """Take note that the session has no link; must not block."""

    def ended(self, session: Session) -> None:
        """Take note, once, that the session needs no link any more."""


class Continuity:
    """The links of one session: which one counts, and how long there may be none."""

    __slots__ = ("_grace", "_lifeline", "_session", "_waiter", "attachment", "epoch", "may_resume")

    def __init__(self, session: Session, lifeline: Lifeline | None) -> None:
        self._session = session
        self._lifeline = lifeline
        # What lives in this process loses its link only when it ends.
        self.may_resume = lifeline is not None and not session.link.by_reference
        self.attachment: Attachment | None = None
        self.epoch = 0
        self._waiter: asyncio.Future[None] | None = None
        self._grace: Timer | None = None

    def attach(self, link: Link, early: Sequence[Frame]) -> Attachment:
        """Let a link move the session's frames."""
        attachment = self.attachment = Attachment(self._session, link)
        attachment.start(early)
        return attachment

    async def resume(self, link: Link, early: Sequence[Frame]) -> None:
        """Attach another link and wait for the peer to have compared notes; see ``Session``."""
        session = self._session
        attachment = self.attach(link, early)
        try:
            with anyio.move_on_after(session.limits.handshake_timeout):
                while session.machine.resuming and not attachment.over:
                    self._waiter = session.new_future()
                    await self._waiter
        finally:
            if session.machine.resuming and not attachment.over:
                attachment.lose(handshake_error(session, link, silent=True))
        if attachment.over:
            raise handshake_error(session, link, silent=False)

    def detach(self, attachment: Attachment, error: FlareError) -> None:
        """Take note that the link is gone; ends the session unless it may get another one."""
        session = self._session
        if self._lifeline is None or not self.may_resume or session.hello is None:
            session.end(error)
            return
        attachment.stop()
        attachment.link.abort()  # nobody waits for what is in its buffers: it is sent again
        self.attachment = None
        session.machine.detach()
        session.flow.detached()
        wake(self._waiter)
        if self._grace is None:
            due = session.clock.now() + session.limits.session_grace
            self._grace = session.clock.call_at(due, lambda: self._expire(error))
        self._lifeline.detached(session)

    def greeted(self) -> None:
        """Measure the link whose hello has come."""
        if self.attachment is not None:
            self.attachment.measure()

    def ponged(self, nonce: int) -> None:
        """Take the answer to a ping."""
        if nonce == MEASURING and self.attachment is not None:
            self.attachment.measured()

    def resumed(self) -> None:
        """Take note that the peer is there again and everything flows."""
        session = self._session
        session.flow.attached(session.clock.now())
        session.watchdog.recheck()
        self._end_grace()
        self.greeted()
        wake(self._waiter)

    def finish(self) -> bool:
        """Send what a Goodbye has left of the queue; False if there is no link for it."""
        if self.attachment is None:
            return False
        self.attachment.pump.finish()
        return True

    def end(self) -> None:
        """Take note, once, that the session has ended."""
        attachment, self.attachment = self.attachment, None
        if attachment is not None:
            attachment.stop()
        self._end_grace()
        wake(self._waiter)
        if self._lifeline is not None:
            self._lifeline.ended(self._session)

    def _expire(self, error: FlareError) -> None:
        self._grace = None
        session = self._session
        problem = f"no new link within {session.limits.session_grace:g} s after: {error}"
        session.end(LinkLost(session.peer, problem))

    def _end_grace(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None


def handshake_error(session: Session, link: Link, *, silent: bool) -> FlareError:
    """Return what to raise when a hello did not come or does not fit."""
    if silent:
        seconds = session.limits.handshake_timeout
        return HandshakeFailed(link.address, f"sent no hello within {seconds:g} s")
    error = session.error
    other_version = isinstance(error, RemoteProtocolError) and error.reason == "version"
    kind = HandshakeRefused if other_version or isinstance(error, Dismissed) else HandshakeFailed
    return kind(link.address, str(error or "it left at once"))
