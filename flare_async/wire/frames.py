"""The nine frames of the protocol, and what a decoder reports of others: Landed, Skipped."""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

from flare_async.hot_value import hot_value

__all__ = [
    "PROTOCOL_VERSION",
    "TRAILER_BYTES",
    "Ack",
    "Data",
    "Frame",
    "Goodbye",
    "Hello",
    "Landed",
    "Open",
    "Ping",
    "Pong",
    "Position",
    "Reset",
    "ResetCode",
    "Resume",
    "Skipped",
]

PROTOCOL_VERSION = 1
TRAILER_BYTES = 1024  # the longest trailer of an end frame


class ResetCode(IntEnum):
    """Why a channel was given up."""

    CANCELLED = 1
    REFUSED = 2
    STALLED = 3
    NOT_FOUND = 4
    GONE = 5
    PROTOCOL = 6
    INTERNAL = 7
    LATE = 8
    TOO_SLOW = 9
    UNREACHABLE = 10  # a relay has lost the peer to whom the channel went on


@hot_value(frozen=True, slots=True)
class Hello:
    """The first frame each way; ``window`` is the credit of every channel the other side opens.

    An urgent one has ``carry`` bytes more: messages may have tensors behind them.
    """

    version: int
    peer: str
    session: bytes
    epoch: int
    token: bytes
    role: str
    window: int
    frame_bytes: int
    carry: int = 0

    def credit(self, *, urgent: bool) -> int:
        """Return what the other side may send at first on a channel that it opens."""
        return self.window + self.carry if urgent else self.window


@hot_value(frozen=True, slots=True)
class Open:
    """Open a channel; ``window`` is the credit that the acceptor gets for what it sends.

    ``end`` says that the opener will send nothing; ``urgent`` puts Data of the channel, both ways,
    into the control lane.
    """

    channel: int
    topic: str
    header: bytes = b""
    window: int = 0
    end: bool = False
    urgent: bool = False
    destination: str = ""
    hops: int = 0


@hot_value(frozen=True, slots=True)
class Data:
    """Payload at an offset of its direction; an end frame may have none, and has a trailer.

    ``done``, only with ``end``, stands for the final Ack: its sender has consumed everything of the
    other direction, whose end it has seen.
    """

    channel: int
    offset: int
    payload: bytes | memoryview
    end: bool = False
    trailer: bytes = b""
    done: bool = False


@hot_value(frozen=True, slots=True)
class Ack:
    """Absolute positions: consumed by the application, and up to where the peer may send."""

    channel: int
    consumed: int
    limit: int


@hot_value(frozen=True, slots=True)
class Reset:
    """Give a channel up, both directions at once."""

    channel: int
    code: int
    message: str


@hot_value(frozen=True, slots=True)
class Ping:
    """Ask for a Pong with the same nonce."""

    nonce: int


@hot_value(frozen=True, slots=True)
class Pong:
    """Answer a Ping."""

    nonce: int


@hot_value(frozen=True, slots=True)
class Goodbye:
    """The last frame of an orderly end."""

    code: int
    message: str


@hot_value(frozen=True, slots=True)
class Position:
    """Up to where a channel's incoming direction has arrived, and whether its end has."""

    channel: int
    received: int
    ended: bool


@hot_value(frozen=True, slots=True)
class Resume:
    """The first frame behind the Hello of a session's second and later links.

    ``opened`` is the id that the sender opens next, ``expected`` the one that it expects next from
    the other side; ``positions`` are all channels that it has open, by rising id.
    """

    opened: int
    expected: int
    positions: tuple[Position, ...]


@hot_value(frozen=True, slots=True)
class Landed:
    """Payload bytes that a decoder wrote into leased memory; never on the wire."""

    channel: int
    offset: int
    length: int


@hot_value(frozen=True, slots=True)
class Skipped:
    """An optional frame of an unknown type, which has no meaning here and is only counted."""

    kind: int


Frame: TypeAlias = Hello | Open | Data | Ack | Reset | Ping | Pong | Goodbye | Resume | Skipped
