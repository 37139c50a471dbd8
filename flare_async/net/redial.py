"""The connecting side's way back: dial again until the peer answers or the session ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio
import structlog

from flare_async.errors import FlareError
from flare_async.net.backoff import Backoff
from flare_async.net.callbacks import cancel_scope, start_soon
from flare_async.net.endpoint import Endpoint
from flare_async.net.link import Link

if TYPE_CHECKING:
    from flare_async.net.session import Session

__all__ = ["Redial"]

log = structlog.get_logger()


class Redial:
    """Gives one session new links by ``dial``; pauses between tries grow up to ``retry_cap``.

    They begin short again when bytes moved over the last link, or it lived longer than the next
    pause may last: a peer that accepts and drops at once is asked ever more seldom. The session's
    end, an abort for instance, ends a pause or a try under way at once.
    """

    __slots__ = ("_backoff", "_dial", "_moved", "_scope", "_since", "_tasks")

    def __init__(self, dial: Callable[[], Awaitable[Link]], endpoint: Endpoint) -> None:
        self._dial = dial
        self._tasks = endpoint.tasks
        self._backoff = Backoff(endpoint.random, "redial", endpoint.limits.retry_cap)
        self._moved = 0
        self._since = endpoint.clock.now()
        self._scope: anyio.CancelScope | None = None

    def detached(self, session: Session) -> None:
        """Begin to dial, unless that is under way."""
        if self._scope is not None:
            return
        lived = session.clock.now() - self._since
        if session.flow.moved > self._moved or lived >= self._backoff.bound:
            self._moved = session.flow.moved
            self._backoff.reset()
        self._scope = cancel_scope()
        start_soon(self._tasks, self._run, session, name=f"redial to {session.peer}")

    def ended(self, session: Session) -> None:
        """Dial no more."""
        if self._scope is not None:
            self._scope.cancel()

    async def _run(self, session: Session) -> None:
        scope = self._scope or cancel_scope()
        with scope:
            while not session.ended and not session.attached:
                # Bounded by the session, which gives up after ``session_grace``.
                await anyio.sleep(self._backoff.pause())
                await self._try(session)
        self._scope = None

    async def _try(self, session: Session) -> None:
        try:
            link = await self._dial()
            try:
                await session.resume(link, session.epoch + 1)
            except BaseException:
                link.abort()
                raise
        except FlareError as exc:
            log.info("redial_failed", peer=session.peer, tries=self._backoff.tries, error=str(exc))
        else:
            self._since = session.clock.now()
            log.info("session_resumed", peer=session.peer, epoch=session.epoch)
