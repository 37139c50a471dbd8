"""Faults of connections, as values: what goes wrong, for whom, in which direction, and when.

Give them to ``SimNetwork(faults=[...])`` or ``SimEnv(faults=[...])``. Every fault may be limited to
a ``site`` or several ``sites``, to a ``direction`` (``up`` is what a site sends, ``down`` what it
receives) and to the time between ``start`` and ``stop``. Seconds are those of the injected clock
since the network was made. Byte positions and frames are counted for each site and direction, over
all of the site's links in turn, so a fault that strikes once does not strike again after a resume.

A stream loses no byte while it lives, as with TCP: what cannot pass waits. A class of your own
derives from ``Fault`` and overrides one of its questions.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from flare_async.errors import ConfigError

__all__ = [
    "Bandwidth",
    "Delay",
    "Direction",
    "Duplicate",
    "Fault",
    "Freeze",
    "HalfOpen",
    "OneWayCut",
    "Slice",
    "SlowReader",
]

Direction = Literal["up", "down", "both"]
DuplicateKind = Literal["data", "ack", "open", "reset"]


@dataclass(frozen=True, slots=True)
class Fault:
    """What may go wrong on a connection; this one changes nothing.

    Raises:
        ConfigError: a value that makes no sense; the error names the fault and the field.
    """

    site: str | None = field(default=None, kw_only=True)
    sites: Sequence[str] | None = field(default=None, kw_only=True)
    direction: Direction = field(default="both", kw_only=True)
    start: float = field(default=0.0, kw_only=True)
    stop: float = field(default=math.inf, kw_only=True)

    def __post_init__(self) -> None:
        known = get_args(Direction)
        self.expect("direction", self.direction in known, f"use one of {', '.join(known)}")
        self.expect("start", 0 <= self.start < math.inf, "seconds from 0 on are needed")
        self.expect("stop", self.stop > self.start, f"must be after the start at {self.start:g} s")
        both = self.site is not None and self.sites is not None
        self.expect("sites", not both, f"contradicts site={self.site!r}; give one of them")
        text = isinstance(self.sites, str)
        self.expect("sites", not text, "is a text; one name belongs into site")

    def expect(self, name: str, holds: bool, problem: str) -> None:
        """Refuse the value of a field.

        Raises:
            ConfigError: ``holds`` is false.
        """
        if not holds:
            raise ConfigError(f"{type(self).__name__}.{name}", getattr(self, name), problem)

    def positive(self, *names: str) -> None:
        """Refuse fields that are given and not positive. Raises ConfigError."""
        for name in names:
            value = getattr(self, name)
            holds = value is None or 0 < value < math.inf
            self.expect(name, holds, "a positive number is needed")

    @property
    def named(self) -> tuple[str, ...] | None:
        """The sites that it is limited to, or None."""
        if self.site is not None:
            return (self.site,)
        return None if self.sites is None else tuple(self.sites)

    def concerns(self, site: str | None, direction: Direction) -> bool:
        """Return whether it acts on one direction of a site's links."""
        named = self.named
        return self.direction in {direction, "both"} and (named is None or site in named)

    def active(self, now: float) -> bool:
        """Return whether it acts at this time."""
        return self.start <= now < self.stop

    def delay(self, dice: random.Random) -> float:
        """Return seconds that bytes travel longer."""
        return 0.0

    def rate(self) -> float:
        """Return the bytes a second at which bytes leave."""
        return math.inf

    def read_rate(self) -> float:
        """Return the bytes a second at which the receiver reads."""
        return math.inf

    def piece(self, dice: random.Random) -> float:
        """Return how many bytes a read brings at most."""
        return math.inf

    def opens_at(self, now: float, made: float) -> float:
        """Return when bytes may arrive on a link made at ``made``: now, later, or never."""
        return now


@dataclass(frozen=True, slots=True)
class Delay(Fault):
    """Bytes travel ``seconds`` longer, and up to ``jitter`` more; half a round trip."""

    seconds: float
    jitter: float = 0.0

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        self.expect("seconds", 0 <= self.seconds < math.inf, "seconds from 0 on are needed")
        self.expect("jitter", 0 <= self.jitter < math.inf, "seconds from 0 on are needed")

    def delay(self, dice: random.Random) -> float:
        """Return the delay with its jitter."""
        return self.seconds + (dice.uniform(0.0, self.jitter) if self.jitter else 0.0)


@dataclass(frozen=True, slots=True)
class Bandwidth(Fault):
    """Bytes leave at so many a second, in each direction of each link."""

    bytes_per_second: float

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        self.positive("bytes_per_second")

    def rate(self) -> float:
        """Return the rate."""
        return self.bytes_per_second


@dataclass(frozen=True, slots=True)
class SlowReader(Fault):
    """The receiver reads so many bytes a second; what it does not read fills the buffers."""

    bytes_per_second: float

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        self.positive("bytes_per_second")

    def read_rate(self) -> float:
        """Return the rate."""
        return self.bytes_per_second


@dataclass(frozen=True, slots=True)
class Slice(Fault):
    """Reads bring ``nbytes`` at a time, or with ``varied`` from one byte to so many."""

    nbytes: int
    varied: bool = False

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        self.expect("nbytes", type(self.nbytes) is int and self.nbytes > 0, "at least 1 is needed")

    def piece(self, dice: random.Random) -> float:
        """Return the length of the next read."""
        return dice.randint(1, self.nbytes) if self.varied else self.nbytes


@dataclass(frozen=True, slots=True)
class Freeze(Fault):
    """Nothing arrives from ``at`` until it ``heals``; then what waited does, in order.

    New connections are made when it heals, if that is within ``handshake_timeout``.
    """

    at: float = 0.0
    heals: float | None = None

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        self.expect("at", 0 <= self.at < math.inf, "seconds from 0 on are needed")
        healed = self.heals is None or self.heals > self.at
        self.expect("heals", healed, f"must be after {self.at:g} s")

    def opens_at(self, now: float, made: float) -> float:
        """Return when it heals, while it lasts."""
        end = math.inf if self.heals is None else self.heals
        return end if self.at <= now < end else now


@dataclass(frozen=True, slots=True)
class OneWayCut(Freeze):
    """An asymmetric partition: ``up`` or ``down`` is frozen, the other direction works."""

    direction: Direction = "both"  # refused: which one has to be said
    at: float = 0.0
    heals: float | None = None

    def __post_init__(self) -> None:
        Freeze.__post_init__(self)
        self.expect("direction", self.direction != "both", "use up or down; Freeze takes both")


@dataclass(frozen=True, slots=True)
class HalfOpen(Fault):
    """At ``at`` the peer of every link that lives vanishes without a word, as by a power failure.

    Nothing arrives any more, no end of the stream either; writes are swallowed until the buffers
    are full. Connections that are made later work.
    """

    at: float = 0.0

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        self.expect("at", 0 <= self.at < math.inf, "seconds from 0 on are needed")

    def opens_at(self, now: float, made: float) -> float:
        """Return never, for a link that was there at the time."""
        return math.inf if made <= self.at <= now else now


@dataclass(frozen=True, slots=True)
class Duplicate(Fault):
    """Every ``every``-th frame of a kind is sent twice, one right after the other."""

    every: int = 1
    kind: DuplicateKind = "data"

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        self.expect("every", type(self.every) is int and self.every > 0, "at least 1 is needed")
        known = get_args(DuplicateKind)
        self.expect("kind", self.kind in known, f"use one of {', '.join(known)}")
