"""Grants: which sites may reach each other for which job, as one hop knows it."""

from __future__ import annotations

from flare_async.errors import ConfigError, FlareError
from flare_async.limits import Limits
from flare_async.net.messages import Messages
from flare_async.net.session import Session
from flare_async.roles.behind import fits
from flare_async.roles.directory import Directory
from flare_async.roles.peer_messages import GRANT_SCHEMA, GRANT_TOPIC, Grant
from flare_async.roles.route_messages import ROUTE_SCHEMA, Joined, Left, RouteMessage
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import OpenOptions

__all__ = ["Granter", "Grants"]

WINDOW = 8192  # credit of the way back, on which nothing comes
OVER = "the job's grant has ended"


class Grants:
    """The grants that this hop has now; one may be here twice while a session takes over."""

    def __init__(self) -> None:
        self._held: list[tuple[Grant, frozenset[str]]] = []

    def add(self, grant: Grant) -> None:
        """Take note of a grant."""
        self._held.append((grant, frozenset(grant.sites)))

    def remove(self, grant: Grant) -> None:
        """Forget a grant, this very object; harmless when it is not here."""
        self._held = [entry for entry in self._held if entry[0] is not grant]

    def allow(self, job: str, origin: str, destination: str) -> bool:
        """Return whether one site may reach the other for a job."""
        return any(
            grant.job == job and origin in sites and destination in sites
            for grant, sites in self._held
        )

    def has(self, job: str) -> bool:
        """Return whether there is a grant for a job."""
        return any(grant.job == job for grant, _ in self._held)


class Granter:
    """Passes a grant on to every relay of a directory, and to its sites where ``to_sites``.

    The channel is the grant: whoever loses it has it no more, and a newer session gets it again.
    """

    def __init__(self, directory: Directory, grant: Grant, *, to_sites: bool) -> None:
        self._directory = directory
        self._grant = grant
        self._to_sites = to_sites
        self._told: dict[Session, Messages[RouteMessage]] = {}
        self._here: dict[str, Session] = {}

    async def run(self) -> None:
        """Keep everybody informed; waits for ever for changes, cancelling leaves what was told."""
        while True:
            self.tell()
            await self._directory.changed()

    def tell(self) -> None:
        """Give the grant to whoever lacks it, and say who has come and gone."""
        here = self._reachable() if self._to_sites else {}
        changes: list[RouteMessage] = [
            Joined(site, ()) for site, entry in here.items() if self._here.get(site) is not entry
        ]
        changes += [Left(site) for site in self._here if site not in here]
        self._here = here
        relays = [s for s in self._directory.relays.values() if not s.ended]
        present = {*relays, *here.values()}
        self._told = {session: told for session, told in self._told.items() if session in present}
        for messages in self._told.values():
            for change in changes:
                post(messages, change)
        for session in [*relays, *here.values()]:
            if session not in self._told:
                self._give(session)

    def end(self) -> None:
        """Take the grant back from everybody."""
        for messages in self._told.values():
            messages.channel.reset(ResetCode.CANCELLED, OVER)
        self._told = {}

    def _reachable(self) -> dict[str, Session]:
        found = self._directory.sites
        return {site: found[site] for site in self._grant.sites if site in found}

    def _give(self, session: Session) -> None:
        away = tuple(s for s in self._grant.sites if s not in self._here) if self._to_sites else ()
        header = GRANT_SCHEMA.encode(Grant(self._grant.job, self._grant.sites, away))
        options = OpenOptions(urgent=True, window=WINDOW)
        try:
            channel = session.open(GRANT_TOPIC, header, options)
        except FlareError:
            return  # it has just ended: the next session is told
        self._told[session] = Messages(channel, ROUTE_SCHEMA)


def check_fits(sites: tuple[str, ...], limits: Limits) -> None:
    """Check that a grant for so many sites is one message. Raises ConfigError."""
    if not fits([*sites, *sites], limits):
        problem = f"a grant for {len(sites)} sites is longer than a control message"
        hint = "raise control_bytes and control_items"
        raise ConfigError("limits.control_items", limits.control_items, problem, hint)


def post(messages: Messages[RouteMessage], change: RouteMessage) -> None:
    """Send one change if there is still somebody to hear it."""
    if messages.channel.is_open:
        try:
            messages.post(change)
        except FlareError:
            return  # the session has ended
