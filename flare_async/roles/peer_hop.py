"""One hop of a channel between two sites: judged by the grant, opened at the next peer, joined.

A channel from site to site is opened for a destination. The first hop that it reaches knows from
its own link who opened it, and writes that down as the origin; a relay's word about an origin
counts for sites that are behind it, the parent's for all. Every hop asks its own copy of the
grant, so a relay that lies gains what its sites were granted and no more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from flare_async.errors import FlareError, RemoteProtocolError
from flare_async.limits import Limits
from flare_async.net.channel import Channel
from flare_async.net.session import Session
from flare_async.net.splice import Splice
from flare_async.roles.directory import Directory, is_relay
from flare_async.roles.grants import Grants
from flare_async.roles.pairs import Pairs
from flare_async.roles.passing import go_on, pull_bytes
from flare_async.roles.peer_messages import PEER_SCHEMA, PEER_TOPIC, PeerOpen
from flare_async.roles.turns import Turn, Turns
from flare_async.transfer.pull import PULL_SCHEMA, PULL_TOPIC
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import OpenOptions

__all__ = ["PeerHop"]


def nobody() -> Session | None:
    """Return the parent of what has none."""
    return None


class PeerHop:
    """Joins channels of sites with each other: bytes pass, and none of them stays here.

    ``turns`` divide this hop's credit among the pulls that pass; ``parent`` is who is asked for a
    destination that is not below.
    """

    def __init__(
        self,
        directory: Directory,
        limits: Limits,
        turns: Turns,
        parent: Callable[[], Session | None] = nobody,
    ) -> None:
        self.grants = Grants()
        self._directory = directory
        self._limits = limits
        self._turns = turns
        self._parent = parent
        self._pairs = Pairs(limits)

    def forward(self, channel: Channel) -> None:
        """Pass a channel on to the site that it is for, or refuse it."""
        opened = self._judged(channel)
        if opened is None:
            return
        site = self._directory.sites.get(channel.for_site)
        parent = self._parent()
        routed = self._directory.is_routed(channel.for_site)
        above = site is None and parent is not None and channel.session is not parent
        if channel.hops <= (routed or above):  # the last hop leads to the site itself
            channel.reset(ResetCode.REFUSED, f"{channel.for_site}: no hop is left")
        elif site is not None:
            hops = channel.hops - 1 if routed else 0
            self._pass(channel, opened, site, OpenOptions(hops=hops))
        elif above and parent is not None:
            options = OpenOptions(destination=channel.for_site, hops=channel.hops - 1)
            self._pass(channel, opened, parent, options)
        else:
            channel.reset(ResetCode.UNREACHABLE, f"{channel.for_site} is not connected here")

    def _judged(self, channel: Channel) -> PeerOpen | None:
        """Return what is opened, with its true origin; what is not granted is refused here."""
        if channel.topic != PEER_TOPIC:
            channel.reset(ResetCode.REFUSED, "nothing else is passed on between sites")
            return None
        try:
            opened = PEER_SCHEMA.decode(channel.header, self._limits)
        except RemoteProtocolError as exc:
            channel.reset(ResetCode.PROTOCOL, exc.reason)
            return None
        origin = self._origin(channel, opened)
        if not self.grants.allow(opened.job, origin, channel.for_site):
            channel.reset(ResetCode.REFUSED, f"no grant to reach {channel.for_site} for this job")
            return None
        return dataclasses.replace(opened, origin=origin)

    def _origin(self, channel: Channel, opened: PeerOpen) -> str:
        session = channel.session
        if session is self._parent():
            return opened.origin
        if is_relay(session):
            return opened.origin if self._directory.via(opened.origin) is session else ""
        return session.peer if self._directory.sites.get(session.peer) is session else ""

    def _pass(
        self, channel: Channel, opened: PeerOpen, session: Session, options: OpenOptions
    ) -> None:
        over = self._pairs.begin(opened.origin, channel.for_site)
        if over is None:
            problem = f"{opened.origin} has too many channels to {channel.for_site} open"
            channel.reset(ResetCode.REFUSED, problem)
            return
        pulls = opened.topic == PULL_TOPIC
        options = dataclasses.replace(options, urgent=channel.urgent, end=channel.ended_there)
        if pulls and not session.link.by_reference:
            self._pull(channel, opened, session, options, over)
            return
        credit = channel.statistics().limit
        given = dataclasses.replace(options, window=credit, leased=pulls)
        go_on(Splice(channel, lambda _: over()), session, PEER_SCHEMA.encode(opened), given)

    def _pull(
        self,
        channel: Channel,
        opened: PeerOpen,
        session: Session,
        options: OpenOptions,
        over: Callable[[], None],
    ) -> None:
        try:
            request = PULL_SCHEMA.decode(opened.header, self._limits)
        except RemoteProtocolError as exc:
            over()
            channel.reset(ResetCode.PROTOCOL, exc.reason)
            return
        header = PEER_SCHEMA.encode(opened)

        def ended(error: FlareError | None) -> None:
            del error
            over()
            self._turns.over(turn)

        splice = Splice(channel, ended)

        def start(window: int) -> bool:
            given = dataclasses.replace(options, window=window)
            return go_on(splice, session, header, given, self._turns.buffers)

        turn = Turn(channel.for_site, pull_bytes(request), start)
        self._turns.ask(turn)
