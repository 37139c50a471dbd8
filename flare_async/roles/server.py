"""The server: accepts sites, keeps their sessions, holds the shelf that models are offered on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import structlog

from flare_async.errors import FlareError, LinkLost, StartFailed
from flare_async.net.link import Link, Listener
from flare_async.net.names import SITE_NAME
from flare_async.net.reception import Reception
from flare_async.net.session import Session
from flare_async.roles.context import Context
from flare_async.roles.stream import Leftovers
from flare_async.wire.frames import ResetCode

__all__ = ["Server"]

log = structlog.get_logger()


class Server:
    """Holds one session a site; a newer session of the same site fences the older."""

    def __init__(self, context: Context, name: str = "server") -> None:
        self.context = context
        self.name = name
        self.shelf = context.shelf(name)
        self.sites: dict[str, Session] = {}
        self.leftovers = Leftovers()
        self._reception = Reception(context.endpoint(name, "server"))
        self._changed = anyio.Event()

    @asynccontextmanager
    async def listen(self, address: str) -> AsyncIterator[str]:
        """Accept sites while the block lasts; yields the address with its real port.

        Leaving the block stops listening; the sessions end with the context.

        Raises:
            ConnectFailed: the address cannot be listened on.
        """
        listener = await self.context.network.listen(address)
        try:
            self.context.tasks.start_soon(self._accept, listener, name=f"accept on {address}")
            yield listener.address
        finally:
            await listener.aclose()

    async def wait_for(self, sites: Sequence[str], minimum: int) -> tuple[str, ...]:
        """Wait until all ``sites`` are connected; return those that are, in the given order.

        Bounded by ``start_timeout``; then ``minimum`` of them are enough. Cancelling leaves
        nothing behind.

        Raises:
            StartFailed: fewer than ``minimum`` came in time.
        """
        with anyio.move_on_after(self.context.limits.start_timeout):
            while any(site not in self.sites for site in sites):
                await self._changed.wait()
        present = tuple(site for site in sites if site in self.sites)
        if len(present) < minimum:
            missing = [site for site in sites if site not in self.sites]
            raise StartFailed(minimum, present, missing)
        return present

    async def _accept(self, listener: Listener) -> None:
        async for link in listener:
            self.context.tasks.start_soon(self._serve, link, name=f"serve {link.address}")

    async def _serve(self, link: Link) -> None:
        peer = link.address
        try:
            session = await self._reception.receive(link)
            if session is None:  # it belongs to a session that is served already
                return
            async with session:
                peer = session.peer
                await self._attend(session)
        except FlareError as exc:
            # One peer's trouble is no reason to stop serving the others.
            log.warning("session_ended", peer=peer, code=exc.code, error=str(exc))

    async def _attend(self, session: Session) -> None:
        if self._refuses(session):
            return
        self._enter(session)
        try:
            async for channel in session:
                channel.reset(ResetCode.REFUSED, "the server takes no such topic")
        finally:
            self._leave(session)

    def _refuses(self, session: Session) -> bool:
        hello = session.hello
        problem = ""
        if hello is None or hello.role != "client" or not SITE_NAME.fullmatch(hello.peer):
            problem = "not a site's name or role"
        elif session.identity not in {None, hello.peer}:
            problem = "the certificate is another site's"
        if problem:
            session.leave(int(ResetCode.REFUSED), problem)
            log.warning("site_refused", address=session.link.address, problem=problem)
        return bool(problem)

    def _enter(self, session: Session) -> None:
        older = self.sites.get(session.peer)
        if older is not None:
            log.warning("site_fenced", site=session.peer, older=older.link.address)
            reason = "a newer session took its place"
            older.leave(int(ResetCode.REFUSED), reason, LinkLost(session.peer, reason))
        self.sites[session.peer] = session
        self.shelf.attach(session)
        self._notify()

    def _leave(self, session: Session) -> None:
        if self.sites.get(session.peer) is session:
            del self.sites[session.peer]
            self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
