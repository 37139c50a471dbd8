"""What a site is to the other sites of a job: a server, whose sites are all behind the real one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from flare_async.net.channel import Channel, Chunk
from flare_async.net.registry import Transports
from flare_async.net.session import Session
from flare_async.roles.context import Context
from flare_async.roles.directory import Directory
from flare_async.roles.peer_messages import PEER_SCHEMA, PEER_TOPIC, PeerOpen
from flare_async.roles.route_messages import Joined, Left, RouteMessage
from flare_async.roles.routes import HOPS, Route
from flare_async.roles.server import Server
from flare_async.transfer.shelf import Shelf
from flare_async.wire.session import DEFAULT_OPTIONS, OpenOptions

__all__ = ["PeerRoute", "PeerServer"]

PEER_HOPS = 2 * HOPS + 1  # relays up, the server, relays down


class PeerRoute(Route):
    """Channels to one peer, over this site's session with the server or its relay."""

    __slots__ = ("_job",)

    def __init__(self, site: str, via: Session, relays: tuple[str, ...], job: str) -> None:
        super().__init__(site, via, relays)
        self._job = job

    def open(
        self,
        topic: str,
        header: bytes = b"",
        options: OpenOptions | None = None,
        behind: Sequence[Chunk] = (),
    ) -> Channel:
        """Open a channel to the peer; raises as ``Route.open`` does.

        Raises:
            FlareError: the route or the session has ended.
        """
        wrapped = PEER_SCHEMA.encode(PeerOpen(self._job, "", topic, header))
        options = dataclasses.replace(options or DEFAULT_OPTIONS, hops=PEER_HOPS)
        channel = super().open(PEER_TOPIC, wrapped, options, behind)
        channel.topic = topic  # in errors it is what it is for
        return channel


class PeerDirectory(Directory):
    """A directory whose sites are peers."""

    def __init__(self, owner: str, context: Context, job: str) -> None:
        super().__init__(owner, context.limits)
        self._job = job

    def route(self, site: str, via: Session, relays: tuple[str, ...]) -> Route:
        """Return the way to a peer."""
        return PeerRoute(site, via, relays, self._job)


class PeerServer(Server):
    """Runs rounds with the peers of one job, as a server does with its sites.

    ``shelf`` is the site's own: what it offers is pulled by peers whose grant is checked. The site
    itself is among its sites inside of an ``at_home`` block: ``take`` gets its tasks.
    """

    def __init__(
        self, context: Context, shelf: Shelf, job: str, take: Callable[[Channel], None]
    ) -> None:
        name = shelf.owner
        own = dataclasses.replace(context, network=Transports(context.limits))
        super().__init__(own, name)
        self.job = job
        self.take = take
        self.shelf = shelf
        self.members: tuple[str, ...] = ()  # whom the job grants each other
        self.directory = PeerDirectory(name, context, job)

    def hear(self, session: Session, message: RouteMessage) -> None:
        """Take the word of a session's peer that another site came or left."""
        match message:
            case Joined(site) if site == self.name:
                pass  # it reaches itself without the server
            case Joined(site):
                self.directory.joined(session, Joined(site, (session.peer,)))
            case Left(site):
                self.directory.left(session, site)

    def lose(self, session: Session) -> None:
        """Lose all peers that were reached over a session."""
        self.directory.leave(session)
