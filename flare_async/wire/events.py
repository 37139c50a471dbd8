"""What a session machine reports about the frames it was given."""

from __future__ import annotations

from typing import TypeAlias

from flare_async.hot_value import hot_value
from flare_async.wire.frames import Hello

__all__ = [
    "Arrived",
    "Credited",
    "Ended",
    "Event",
    "Finished",
    "LandedBytes",
    "Opened",
    "Overran",
    "PeerHello",
    "PeerLeft",
    "Ponged",
    "Resumed",
    "WasReset",
]


@hot_value(frozen=True, slots=True)
class PeerHello:
    """The peer's Hello is in hand; frames that were queued may leave."""

    hello: Hello


@hot_value(frozen=True, slots=True)
class Opened:
    """The peer opened a channel; ``end`` says that it will send nothing on it."""

    channel: int
    topic: str
    header: bytes
    urgent: bool
    end: bool
    destination: str
    hops: int


@hot_value(frozen=True, slots=True)
class Arrived:
    """Bytes arrived, in order; they hold credit until they are consumed."""

    channel: int
    payload: bytes | memoryview


@hot_value(frozen=True, slots=True)
class LandedBytes:
    """Bytes arrived, in order, and are in leased memory already."""

    channel: int
    length: int


@hot_value(frozen=True, slots=True)
class Ended:
    """The peer will send no more on a channel."""

    channel: int
    trailer: bytes


@hot_value(frozen=True, slots=True)
class Credited:
    """The peer's acknowledgement advanced: bytes were consumed, or more may be sent."""

    channel: int


@hot_value(frozen=True, slots=True)
class WasReset:
    """The peer gave a channel up; its state is dropped."""

    channel: int
    code: int
    message: str


@hot_value(frozen=True, slots=True)
class Finished:
    """Both directions ended and all was acknowledged; the channel's state is dropped."""

    channel: int


@hot_value(frozen=True, slots=True)
class Overran:
    """The peer sent more than leased memory holds; the channel was reset, its state is dropped."""

    channel: int
    total: int


@hot_value(frozen=True, slots=True)
class PeerLeft:
    """The peer said Goodbye; what it sends from now on is ignored."""

    code: int
    message: str


@hot_value(frozen=True, slots=True)
class Ponged:
    """The peer answered a Ping."""

    nonce: int


@hot_value(frozen=True, slots=True)
class Resumed:
    """The peer's Resume is applied: every channel goes on over the new link."""


Event: TypeAlias = (
    PeerHello
    | Opened
    | Arrived
    | LandedBytes
    | Ended
    | Credited
    | WasReset
    | Finished
    | Overran
    | PeerLeft
    | Ponged
    | Resumed
)
