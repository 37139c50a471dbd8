"""Who lets sites and relays in: what server and relay have in common towards those below them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import anyio
import structlog

from flare_async.errors import FlareError, RemoteProtocolError, StartFailed
from flare_async.net.callbacks import start_soon
from flare_async.net.channel import Channel
from flare_async.net.link import Link, Listener
from flare_async.net.messages import Messages
from flare_async.net.names import SITE_NAME
from flare_async.net.reception import Reception
from flare_async.net.session import Session
from flare_async.roles.context import Context
from flare_async.roles.directory import Directory, is_relay
from flare_async.roles.partial_messages import REDUCES
from flare_async.roles.route_messages import ROUTE_SCHEMA, ROUTES_TOPIC, Joined, Left
from flare_async.wire.frames import ResetCode

__all__ = ["Acceptor"]

ROLES = frozenset({"client", "relay"})
log = structlog.get_logger()


class Acceptor:
    """Holds one session a site or relay; a newer session of the same name fences the older.

    ``relays`` names who may come as a relay; None is everybody.
    """

    def __init__(
        self, context: Context, name: str, role: str, relays: Collection[str] | None = None
    ) -> None:
        self.context = context
        self.name = name
        self.directory = Directory(name, context.limits)
        self._relays = relays
        self._sessions: dict[Session, None] = {}  # in order: a set has that of their addresses
        self._reception = Reception(context.endpoint(name, role))

    @property
    def sites(self) -> dict[str, Session]:
        """The sites that can be reached, directly or behind relays, by name."""
        return self.directory.sites

    def attach(self, session: Session) -> None:
        """Say what a new session's peer may ask for; for subclasses."""

    @asynccontextmanager
    async def listen(self, address: str) -> AsyncIterator[str]:
        """Accept sites and relays while the block lasts; yields the address with its real port.

        Leaving the block stops listening; the sessions end with the context.

        Raises:
            ConnectFailed: the address cannot be listened on.
        """
        listener = await self.context.network.listen(address)
        try:
            start_soon(self.context.tasks, self._accept, listener, name=f"accept on {address}")
            yield listener.address
        finally:
            await listener.aclose()

    async def wait_for(
        self, sites: Sequence[str], minimum: int, required: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """Wait until all ``sites`` are connected; return those that are, in the given order.

        Bounded by ``start_timeout``; then ``minimum`` of them are enough, if all that are
        ``required`` are there. Cancelling leaves nothing behind.

        Raises:
            StartFailed: fewer than ``minimum`` came in time, or not all that are required.
        """
        here = self.sites
        with anyio.move_on_after(self.context.limits.start_timeout):
            while any(site not in here for site in sites):
                await self.directory.changed()
        present = tuple(site for site in sites if site in here)
        missing = [site for site in sites if site not in here]
        if len(present) < minimum or set(required) & set(missing):
            raise StartFailed(max(minimum, len(required)), present, missing)
        if missing:
            log.warning("sites_excluded", phase="connect", sites=missing)
        return present

    def end_sessions(self, code: int, message: str) -> None:
        """Say goodbye to everybody below."""
        for session in list(self._sessions):
            session.leave(code, message)

    async def _accept(self, listener: Listener) -> None:
        async for link in listener:
            start_soon(self.context.tasks, self._serve, link, name=f"serve {link.address}")

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
        self._sessions[session] = None
        self.attach(session)
        self.directory.enter(session)
        routes = False
        try:
            async for channel in session:
                if channel.topic == ROUTES_TOPIC and is_relay(session) and not routes:
                    routes = True
                    name = f"routes of {session.peer}"
                    start_soon(self.context.tasks, self._learn, session, channel, name=name)
                else:
                    channel.reset(ResetCode.REFUSED, f"{self.name} takes no such topic")
        finally:
            self._sessions.pop(session, None)
            self.directory.leave(session)

    async def _learn(self, session: Session, channel: Channel) -> None:
        """Take a relay's word of who is behind it, until its session ends."""
        messages = Messages(channel, ROUTE_SCHEMA)
        if channel.header == REDUCES:
            self.directory.reducing.add(session)
        try:
            while not session.ended:
                match await messages.receive():
                    case Joined() as joined:
                        self.directory.joined(session, joined)
                    case Left(site):
                        self.directory.left(session, site)
        except RemoteProtocolError as exc:
            session.refuse(exc)
        except (FlareError, anyio.EndOfStream):
            return  # the session has ended, and takes its sites with it

    def _refuses(self, session: Session) -> bool:
        hello = session.hello
        problem = ""
        if hello is None or hello.role not in ROLES or not SITE_NAME.fullmatch(hello.peer):
            problem = "not a site's name or role"
        elif is_relay(session) and self._relays is not None and hello.peer not in self._relays:
            problem = "not one of the relays"
        elif session.identity not in {None, hello.peer}:
            problem = "the certificate is another site's"
        if problem:
            session.leave(int(ResetCode.REFUSED), problem)
            log.warning("site_refused", address=session.link.address, problem=problem)
        return bool(problem)
