"""What travels when sites of one job reach each other: the grant, and the open of a channel."""

from __future__ import annotations

from dataclasses import dataclass

from flare_async.wire.schema import Schema

__all__ = ["GRANT_SCHEMA", "GRANT_TOPIC", "PEER_SCHEMA", "PEER_TOPIC", "Grant", "PeerOpen"]

GRANT_TOPIC = "grant"
PEER_TOPIC = "peer"


@dataclass(frozen=True, slots=True)
class Grant:
    """Sites of a job that may reach each other, as long as the channel that it came with is open.

    ``away`` are those of them that cannot be reached now; who comes and goes later follows on the
    channel as the messages of a relay's routes.
    """

    job: str
    sites: tuple[str, ...]
    away: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PeerOpen:
    """A channel from one site to another: in place of its topic and header.

    ``origin`` is written by the first hop, whose link vouches for it; what a site writes there
    counts for nothing.
    """

    job: str
    origin: str
    topic: str
    header: bytes


GRANT_SCHEMA: Schema[Grant] = Schema((1, Grant))
PEER_SCHEMA: Schema[PeerOpen] = Schema((1, PeerOpen))
