"""What a relay tells its parent about the sites that can be reached through it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from flare_async.wire.schema import Schema

__all__ = ["ROUTES_TOPIC", "ROUTE_SCHEMA", "Joined", "Left", "RouteMessage"]

ROUTES_TOPIC = "routes"


@dataclass(frozen=True, slots=True)
class Joined:
    """A site can be reached, or has come back under a newer session.

    ``relays`` is the way to it: the relay beside the site first, the sender of this message last.
    """

    site: str
    relays: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Left:
    """A site cannot be reached any more."""

    site: str


RouteMessage: TypeAlias = Joined | Left
ROUTE_SCHEMA: Schema[RouteMessage] = Schema((1, Joined), (2, Left))
