"""Tells a relay's parent which sites are behind the relay, now and whenever that changes."""

from __future__ import annotations

import structlog

from flare_async.errors import FlareError
from flare_async.net.messages import Messages
from flare_async.net.session import Session
from flare_async.roles.route_messages import (
    ROUTE_SCHEMA,
    ROUTES_TOPIC,
    Joined,
    Left,
    RouteMessage,
)
from flare_async.wire.session import OpenOptions

__all__ = ["Announcer"]

WINDOW = 8192  # credit of the way back, on which nothing comes
log = structlog.get_logger()


class Announcer:
    """Keeps the ways to all sites; a new session with the parent is told of all of them.

    ``header`` says what else the relay does, if anything.
    """

    def __init__(self, name: str, header: bytes = b"") -> None:
        self._name = name
        self._header = header
        self._ways: dict[str, tuple[str, ...]] = {}
        self._messages: Messages[RouteMessage] | None = None

    def attach(self, session: Session) -> None:
        """Tell a new session of everybody; raises the session's error if it has ended."""
        channel = session.open(ROUTES_TOPIC, self._header, OpenOptions(urgent=True, window=WINDOW))
        self._messages = Messages(channel, ROUTE_SCHEMA)
        for site, relays in self._ways.items():
            self._post(Joined(site, relays))

    # For the directory

    def site_joined(self, site: str, relays: tuple[str, ...]) -> None:
        """Take note that a site came, came back or changed its way."""
        self._ways[site] = way = (*relays, self._name)
        self._post(Joined(site, way))

    def site_left(self, site: str) -> None:
        """Take note that a site cannot be reached any more."""
        if self._ways.pop(site, None) is not None:
            self._post(Left(site))

    def _post(self, message: RouteMessage) -> None:
        messages = self._messages
        if messages is None or not messages.channel.is_open:
            return  # there is no parent: the next session is told of everybody
        try:
            messages.post(message)
        except FlareError as exc:
            log.warning("route_not_told", relay=self._name, site=message.site, error=str(exc))
