"""What a relay passes on from its parent to the sites below it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Final

from flare_async.errors import FlareError, RemoteProtocolError
from flare_async.limits import Limits
from flare_async.net.channel import Channel
from flare_async.net.session import Session
from flare_async.net.splice import Splice, reset_of
from flare_async.roles.directory import Directory
from flare_async.roles.messages import OFFER_SCHEMA, TASK_TOPIC
from flare_async.roles.passing import go_on, pull_bytes, pull_request
from flare_async.roles.peer_hop import PeerHop
from flare_async.roles.peer_messages import PEER_TOPIC
from flare_async.roles.turns import Turn, Turns
from flare_async.transfer.pull import PULL_TOPIC
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import OpenOptions

__all__ = ["Downward", "margin_of"]

LONGEST_MARGIN: Final = 5.0


def margin_of(remaining: float) -> float:
    """Return how much earlier than its parent a level of a tree must be ready."""
    return min(LONGEST_MARGIN, remaining / 10)


class Downward:
    """Goes on with channels that the parent has opened to a site: one hop, to whoever is next."""

    def __init__(self, directory: Directory, limits: Limits, turns: Turns, peers: PeerHop) -> None:
        self._directory = directory
        self._limits = limits
        self._turns = turns
        self._peers = peers  # judges what sites open to each other
        self._tasks: dict[str, dict[Splice, None]] = {}
        self._stalls: Counter[str] = Counter()

    def forward(self, channel: Channel) -> None:
        """Pass a channel on to the site that it is for, or refuse it."""
        if channel.topic == PEER_TOPIC:
            self._peers.forward(channel)
            return
        site = self._directory.sites.get(channel.for_site)
        if channel.hops <= self._directory.is_routed(
            channel.for_site
        ):  # the last hop leads to the site itself
            channel.reset(ResetCode.REFUSED, f"{channel.for_site}: no hop is left")
        elif site is None:
            channel.reset(ResetCode.UNREACHABLE, f"{channel.for_site} is not connected here")
        elif channel.topic == PULL_TOPIC and not channel.session.link.by_reference:
            self._pull(channel, site)
        else:
            self._join(channel, site)

    def stalled(self, site: str, error: FlareError) -> None:
        """Take note that a site has stopped taking what it pulls; in the end it loses its tasks."""
        self._stalls[site] += 1
        if self._stalls[site] > self._limits.max_resends:
            self._stalls.pop(site)
            for splice in list(self._tasks.get(site, ())):
                splice.reset(ResetCode.STALLED, f"{site} stalls its pulls: {reset_of(error)[1]}")

    def took(self, site: str) -> None:
        """Take note that a site has taken all of a pull: what it did before is forgiven."""
        self._stalls.pop(site, None)

    def _pull(self, channel: Channel, site: Session) -> None:
        request = pull_request(channel, self._limits)
        if request is None:
            return
        splice = Splice(channel, lambda _: self._turns.over(turn))

        def start(window: int) -> bool:
            return self._go_on(splice, site, OpenOptions(window=window))

        turn = Turn(site.peer, pull_bytes(request), start)
        self._turns.ask(turn)

    def _join(self, channel: Channel, site: Session) -> None:
        splice = Splice(channel, lambda _: self._over(site.peer, splice))
        credit = channel.statistics().limit
        leased = channel.topic == PULL_TOPIC  # by reference: what arrives is held elsewhere
        options = OpenOptions(window=credit, urgent=channel.urgent, leased=leased)
        if channel.topic == TASK_TOPIC:
            channel.header = self._earlier(channel.header)
            self._tasks.setdefault(site.peer, {})[splice] = None
        self._go_on(splice, site, options)

    def _over(self, site: str, splice: Splice) -> None:
        tasks = self._tasks.get(site, {})
        tasks.pop(splice, None)
        if not tasks:
            self._tasks.pop(site, None)

    def _go_on(self, splice: Splice, site: Session, options: OpenOptions) -> bool:
        channel = splice.here
        hops = channel.hops - 1 if self._directory.is_routed(site.peer) else 0
        options = dataclasses.replace(options, end=channel.ended_there, hops=hops)
        return go_on(splice, site, channel.header, options, self._turns.buffers)

    def _earlier(self, header: bytes) -> bytes:
        """Return a task's offer that leaves this level time to answer its parent."""
        try:
            offer = OFFER_SCHEMA.decode(header, self._limits)
        except RemoteProtocolError:
            return header  # the site refuses it, and names the reason
        if offer.remaining is None:
            return header
        remaining = offer.remaining - margin_of(offer.remaining)
        return OFFER_SCHEMA.encode(dataclasses.replace(offer, remaining=remaining))
