"""Which sites can be reached, directly or behind relays, and who said so last."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Protocol, cast
from weakref import WeakSet

import anyio
import structlog

from flare_async.errors import LinkLost, RemoteProtocolError
from flare_async.limits import Limits
from flare_async.net.names import SITE_NAME
from flare_async.net.session import Session
from flare_async.roles.route_messages import Joined
from flare_async.roles.routes import HOPS, Route
from flare_async.wire.frames import ResetCode

__all__ = ["Directory", "DirectoryObserver", "RelayObserver", "is_relay"]

CHANNELS_A_FETCH = 16  # that a downloader has open at a time
NEWER = "a newer session took its place"
log = structlog.get_logger()


class DirectoryObserver(Protocol):
    """Is told of sites that come and go; must not block."""

    def site_joined(self, site: str, relays: tuple[str, ...]) -> None:
        """Take note that a site came, came back or changed its way."""

    def site_left(self, site: str) -> None:
        """Take note that a site cannot be reached any more."""


class RelayObserver(Protocol):
    """Is told of relays that come; must not block."""

    def relay_joined(self, relay: str) -> None:
        """Take note that a relay came, or came back."""


class Directory:
    """One entry a site: a session, or a route over a relay's session. The newest word wins.

    An entry that a link's certificate vouches for is displaced by another link of that certificate
    only, never by a relay's word.
    """

    def __init__(self, owner: str, limits: Limits) -> None:
        self.sites: dict[str, Session] = {}  # a route stands for the session that it looks like
        self.relays: dict[str, Session] = {}
        self.reducing: WeakSet[Session] = WeakSet()  # those of relays that add what is behind them
        self.seen: dict[
            str, None
        ] = {}  # the last names, for telling who was lost from who never came
        self.observer: DirectoryObserver | None = None
        self.rounds: WeakSet[RelayObserver] = WeakSet()  # as long as somebody else holds them
        self._owner = owner
        self._most = limits.control_items
        self._names = limits.sessions
        self._routes: dict[str, Route] = {}
        self._behind: dict[Session, dict[str, None]] = {}
        self._gates: dict[Session, asyncio.Semaphore] = {}
        self._fetches = max(1, limits.channels // 2 // CHANNELS_A_FETCH)
        self._changed: anyio.Event | None = None  # what somebody waits for

    def is_routed(self, site: str) -> bool:
        """Return whether a site is reached through a relay."""
        return site in self._routes

    def via(self, site: str) -> Session | None:
        """Return the session of the relay through which a site is reached, if it is."""
        route = self._routes.get(site)
        return None if route is None else route.via

    def weight(self, session: Session) -> int:
        """Return how many sites a session stands for."""
        return max(1, len(self._behind.get(session, ())))

    def gate(self, site: str) -> AbstractAsyncContextManager[object]:
        """Return what to enter while a site's result is pulled.

        The results of all sites behind a relay share its session's channels.
        """
        route = self._routes.get(site)
        if route is None:
            return nullcontext()
        return self._gates.setdefault(route.via, asyncio.Semaphore(self._fetches))

    async def changed(self) -> None:
        """Wait for ever for the next change; what bounds that is the caller's business."""
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()

    def enter(self, session: Session) -> None:
        """Add a site's or a relay's own session; an older one of that name is ended."""
        name, older = session.peer, None
        if is_relay(session):
            older = self.relays.get(name)
            self.relays[name] = session
            for observer in list(self.rounds):
                observer.relay_joined(name)
        else:
            route = self._forget(name)
            older = self.sites.get(name) if route is None else None
            self._put(name, session, ())
            if route is not None:
                route.end(NEWER)
        if older is not None:
            self._fence(older)

    def leave(self, session: Session) -> None:
        """Remove what is reached over a session."""
        if self.relays.get(session.peer) is session:
            del self.relays[session.peer]
        if self.sites.get(session.peer) is session:
            self._drop(session.peer)
        for site in list(self._behind.get(session, ())):
            self.left(session, site)
        self._behind.pop(session, None)
        self._gates.pop(session, None)
        self.reducing.discard(session)

    def joined(self, via: Session, message: Joined) -> None:
        """Take a relay's word that a site is behind it.

        Raises:
            RemoteProtocolError: it speaks for another relay, or says what cannot be.
        """
        self._check(via, message)
        site, known = message.site, self.sites.get(message.site)
        vouched = known is not None and site not in self._routes and known.identity is not None
        if vouched:
            log.warning("route_refused", site=site, relay=via.peer, problem="has a certificate")
            return
        older = self._forget(site)
        route = self._routes[site] = self.route(site, via, message.relays)
        self._behind.setdefault(via, {})[site] = None
        self._put(site, cast("Session", route), message.relays)
        if older is not None:
            older.end(f"{site} came back through {via.peer}")
        elif known is not None:
            self._fence(known)

    def left(self, via: Session, site: str) -> None:
        """Take a relay's word that a site is behind it no more; another relay's site stays."""
        route = self._routes.get(site)
        if route is not None and route.via is via:
            self._forget(site)
            self._drop(site)
            route.end(f"{via.peer} cannot reach it any more")

    def route(self, site: str, via: Session, relays: tuple[str, ...]) -> Route:
        """Return the way to a site; for subclasses."""
        return Route(site, via, relays)

    def _check(self, via: Session, message: Joined) -> None:
        relays, problem = message.relays, ""
        behind = self._behind.get(via, {})
        if not SITE_NAME.fullmatch(message.site):
            problem = f"{message.site[:40]!a} is no site's name"
        elif not relays or relays[-1] != via.peer:
            problem = f"{via.peer} speaks for {relays[-1:]}"
        elif self._owner in relays or len(set(relays)) < len(relays):
            problem = f"{message.site} is behind a loop of {len(relays)} relays"
        elif len(relays) > HOPS:
            problem = f"{message.site} is behind {len(relays)} relays, at most {HOPS}"
        elif len(behind) >= self._most and message.site not in behind:
            problem = f"{len(behind)} sites behind {via.peer}, at most control_items={self._most}"
        if problem:
            raise RemoteProtocolError("bad_route", problem)

    def _forget(self, site: str) -> Route | None:
        route = self._routes.pop(site, None)
        if route is not None:
            self._behind[route.via].pop(site, None)
        return route

    def _put(self, site: str, entry: Session, relays: tuple[str, ...]) -> None:
        self.sites[site] = entry
        self.seen.pop(site, None)
        self.seen[site] = None
        if len(self.seen) > self._names:
            del self.seen[next(iter(self.seen))]
        if self.observer is not None:
            self.observer.site_joined(site, relays)
        self._notify()

    def _drop(self, site: str) -> None:
        del self.sites[site]
        if self.observer is not None:
            self.observer.site_left(site)
        self._notify()

    def _fence(self, older: Session) -> None:
        log.warning("site_fenced", site=older.peer, older=older.link.address)
        older.leave(int(ResetCode.REFUSED), NEWER, LinkLost(older.peer, NEWER))

    def _notify(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()


def is_relay(session: Session) -> bool:
    """Return whether the peer of a session is a relay."""
    return session.hello is not None and session.hello.role == "relay"
