"""A site's peers: the grants that it has, whom it reaches with them, and what they may ask of it.

A site takes a peer's task as it takes one of the server, and answers a peer's pulls from its own
shelf. Who the peer is was judged by the hops on the way; that the job grants it is checked here
once more, by what the server has told this site itself.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio
import structlog

from flare_async.errors import FlareError, LinkError, RemoteProtocolError, TrainingFailed
from flare_async.net.callbacks import start_soon
from flare_async.net.channel import Channel
from flare_async.net.messages import Messages
from flare_async.net.session import Session
from flare_async.roles.context import Context
from flare_async.roles.grants import Grants
from flare_async.roles.messages import TASK_TOPIC
from flare_async.roles.peer_messages import (
    GRANT_SCHEMA,
    GRANT_TOPIC,
    PEER_SCHEMA,
    PEER_TOPIC,
    Grant,
    PeerOpen,
)
from flare_async.roles.peer_server import PeerServer
from flare_async.roles.route_messages import ROUTE_SCHEMA, Joined
from flare_async.transfer.pull import PULL_TOPIC
from flare_async.transfer.shelf import Shelf
from flare_async.wire.frames import ResetCode

__all__ = ["Peers"]

log = structlog.get_logger()


class Peers:
    """The peers of one site, job by job; ``take`` gets the channels of their tasks.

    ``on_over`` is told of each job whose last grant has ended.
    """

    def __init__(
        self, context: Context, name: str, shelf: Shelf, take: Callable[[Channel], None]
    ) -> None:
        self.on_over: Callable[[str], None] | None = None
        self._context = context
        self._name = name
        self._shelf = shelf
        self._take = take
        self._grants = Grants()
        self._servers: dict[str, PeerServer] = {}

    def attach(self, session: Session) -> None:
        """Take grants and peers' channels from a session."""
        session.serve(GRANT_TOPIC, self._granted)
        session.serve(PEER_TOPIC, self._asked)

    def server(self, job: str) -> PeerServer | None:
        """Return what runs rounds with the peers of a job; None without a grant for it."""
        return self._servers.get(job)

    def reach(self, channel: Channel, job: str) -> Session:
        """Return where the opener of a task's channel offers what the task names.

        Raises:
            TrainingFailed: a peer opened it, and is none for this job.
        """
        if not channel.origin:
            return channel.session
        server = self._servers.get(job)
        session = None if server is None else server.sites.get(channel.origin)
        if session is None or not self._grants.allow(job, channel.origin, self._name):
            raise TrainingFailed(self._name, f"{channel.origin} is no peer for {job[:80]!r}")
        return session

    def close(self) -> None:
        """End what is kept for any job: the site serves no more."""
        self._grants = Grants()
        for job in list(self._servers):
            self._end_unless_granted(job)

    def _granted(self, channel: Channel) -> None:
        try:
            grant = GRANT_SCHEMA.decode(channel.header, self._context.limits)
        except RemoteProtocolError as exc:
            channel.reset(ResetCode.PROTOCOL, exc.reason)
            return
        self._grants.add(grant)
        for job in list(self._servers):
            self._end_unless_granted(job)  # its grant went with a session and never came back
        server = self._servers.get(grant.job)
        if server is None:
            server = PeerServer(self._context, self._shelf, grant.job, self._take)
            self._servers[grant.job] = server
        server.members = grant.sites
        for site in grant.sites:
            if site not in grant.away:
                server.hear(channel.session, Joined(site, ()))
        name = f"peers of {self._name}"
        start_soon(self._context.tasks, self._learn, channel, grant, server, name=name)

    async def _learn(self, channel: Channel, grant: Grant, server: PeerServer) -> None:
        """Hear who comes and goes until the grant ends.

        A grant that goes with its session is waited for ``session_grace`` seconds, with all that is
        kept for the job's peers.
        """
        messages = Messages(channel, ROUTE_SCHEMA)
        try:
            while True:
                server.hear(channel.session, await messages.receive())
        except RemoteProtocolError as exc:
            channel.reset(ResetCode.PROTOCOL, exc.reason)
        except LinkError:
            self._lose(channel, grant, server)
            await anyio.sleep(self._context.limits.session_grace)  # a newer session brings it again
            self._end_unless_granted(grant.job)
        except (FlareError, anyio.EndOfStream):
            self._grants.remove(grant)
            self._end_unless_granted(grant.job)
        finally:
            self._lose(channel, grant, server)

    def _lose(self, channel: Channel, grant: Grant, server: PeerServer) -> None:
        self._grants.remove(grant)
        server.lose(channel.session)

    def _end_unless_granted(self, job: str) -> None:
        if self._grants.has(job) or self._servers.pop(job, None) is None:
            return
        if self.on_over is not None:
            self.on_over(job)

    def _asked(self, channel: Channel) -> None:
        try:
            opened = PEER_SCHEMA.decode(channel.header, self._context.limits)
        except RemoteProtocolError as exc:
            channel.reset(ResetCode.PROTOCOL, exc.reason)
            return
        if not self._grants.allow(opened.job, opened.origin, self._name):
            channel.reset(ResetCode.REFUSED, f"{self._name} has no grant for this job and origin")
            return
        self._open(channel, opened)

    def _open(self, channel: Channel, opened: PeerOpen) -> None:
        channel.topic, channel.header = opened.topic, opened.header
        channel.origin = opened.origin
        if opened.topic == PULL_TOPIC:
            self._shelf.answer(channel)
        elif opened.topic == TASK_TOPIC:
            self._take(channel)
        else:
            channel.reset(ResetCode.REFUSED, "a peer may pull and give tasks only")
