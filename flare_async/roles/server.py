"""The server: accepts sites, keeps their sessions, holds the shelf that models are offered on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from flare_async.net.lobby import FORWARDED
from flare_async.net.session import Session
from flare_async.roles.acceptor import Acceptor
from flare_async.roles.context import Context
from flare_async.roles.peer_hop import PeerHop
from flare_async.roles.stream import Leftovers
from flare_async.roles.turns import Turns

__all__ = ["Server"]


class Server(Acceptor):
    """Holds one session a site; a newer session of the same site fences the older.

    Sites behind relays stand in ``sites`` like all others, by the routes to them. ``relays`` names
    who may come as a relay, and so speak for other sites; None is everybody.
    """

    def __init__(
        self, context: Context, name: str = "server", relays: Collection[str] | None = None
    ) -> None:
        super().__init__(context, name, "server", relays)
        self.shelf = context.shelf(name)
        self.leftovers = Leftovers()
        limits = context.limits
        credit = min(limits.process_bytes // 4, limits.link_bytes * 3 // 4)
        turns = Turns(credit, limits.channels // 4, lambda: len(self.sites))
        self.peers = PeerHop(self.directory, limits, turns)  # sites that are granted each other
        self.wants_logs: dict[
            str, Callable[[str], None]
        ] = {}  # by job: whom sites' records are for

    def attach(self, session: Session) -> None:
        """Answer pulls of a new session's peer, and pass on what is for its job's other sites."""
        self.shelf.attach(session)
        session.serve(FORWARDED, self.peers.forward)

    def note_logs(self, job: str, site: str) -> None:
        """Take note that a site has records of a job to tell."""
        want = self.wants_logs.get(job)
        if want is not None:
            want(site)

    def readers(self, sites: Iterable[str]) -> list[str]:
        """Return who pulls for ``sites``: they themselves, and the relays that are here."""
        return [*sites, *self.directory.relays]
