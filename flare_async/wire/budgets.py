"""How often a peer may do what is cheap for it: token buckets, filled by the time that passes.

The numbers are far above what honest peers do, measured over every transport here, and far below
what a flood needs: a peer that waits for answers opens a few thousand channels a second and resets
as many as it has open when a round ends. They belong to the session: a new link fills no bucket,
or a peer could have full ones as often as it dials.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from flare_async.errors import RemoteProtocolError

__all__ = ["TINY_BYTES", "Budgets", "Cheap"]

TINY_BYTES: Final = 512  # shorter payload costs its receiver more than its sender


class Cheap(IntEnum):
    """What has a budget; the value is its place in the table of rules."""

    OPENS = 0
    RESETS = 1
    PINGS = 2
    IDLE_ACKS = 3
    STRAYS = 4
    UNKNOWN = 5
    TINY = 6
    LINKS = 7
    MESSAGES = 8


@dataclass(frozen=True, slots=True)
class _Rule:
    """At most ``burst`` and ``per_channel`` times the channels at once, then ``rate`` a second."""

    name: str
    burst: int
    per_channel: int
    rate: int


_RULES: Final = (
    # One peer opens and finishes 10,000 a second in memory, fewer over bytes.
    _Rule("opens", 50_000, 4, 25_000),
    # Its own, and those that it makes us send. A round that ends resets what is open; nobody
    # resets a thousand a second for long. Open and reset 10,000 a second: stopped within a second.
    _Rule("resets", 4_000, 4, 1_000),
    # A heartbeat is one in five seconds.
    _Rule("pings and pongs", 200, 0, 20),
    # A consumer acknowledges what it has consumed; credit alone is told once a channel.
    _Rule("acknowledgements of nothing", 4_000, 4, 1_000),
    # Frames of closed channels: what was under way, in pieces of 64 KiB or tiny ones.
    _Rule("frames of closed channels", 100_000, 4, 10_000),
    # There are none yet; a newer peer may say a few things that need not be understood.
    _Rule("frames of unknown types", 1_000, 0, 100),
    # The tails of streams and of frames, and small chunks as fast as asyncio takes them one by one.
    _Rule("data frames below 512 bytes", 200_000, 4, 20_000),
    # A link that flaps every few seconds, for as long as it likes; each costs what is open.
    _Rule("links", 20, 0, 1),
    # A task has two that end no direction, a start one, and as many channels as may be opened;
    # tensors behind them come in frames of a size, and what is left of the last one.
    _Rule("messages below 512 bytes", 200_000, 4, 50_000),
)
# What a resumed session says again of a channel: its positions, for one that is closed here as
# well, and the rest of a frame whose beginning had arrived. All else that arrived is not repeated.
_REPEATED: Final = (Cheap.IDLE_ACKS, Cheap.STRAYS, Cheap.TINY, Cheap.MESSAGES)


class Budgets:
    """What is left to one peer; nothing is counted that is not ``metered``.

    A bucket is filled only when it is found empty, so a frame costs one subtraction.
    """

    __slots__ = ("_begun", "_channels", "_granted", "_left", "_metered", "_since")

    def __init__(self, channels: int, *, metered: bool) -> None:
        self._channels = channels
        self._metered = metered
        self._left: list[int] = []
        self.begin(0.0)

    def begin(self, now: float) -> None:
        """Fill everything: the first link begins."""
        if not self._metered:
            return
        self._left = [self._burst(rule) for rule in _RULES]
        self._granted = list(self._left)
        self._begun = [now] * len(_RULES)  # when the bucket was full
        self._since = list(self._begun)  # when it was found empty

    def relink(self, now: float, channels: int) -> None:
        """Count a further link; what it honestly repeats of ``channels`` open ones is not counted.

        Raises:
            RemoteProtocolError: too many links (``flood``); this one was not counted.
        """
        if not self._metered:
            return
        self.spend(Cheap.LINKS, now)
        for kind in _REPEATED:
            more = min(channels, max(0, self._burst(_RULES[kind]) + channels - self._left[kind]))
            self._left[kind] += more
            self._granted[kind] += more

    def spend(self, kind: Cheap, now: float, count: int = 1) -> None:
        """Count something that the peer did.

        Raises:
            RemoteProtocolError: too often (``flood``).
        """
        if not self._metered:
            return
        left = self._left[kind] - count
        self._left[kind] = left
        if left < 0:
            try:
                self._earn(kind, now)
            except RemoteProtocolError:
                self._left[kind] += count
                raise

    def _earn(self, kind: Cheap, now: float) -> None:
        rule = _RULES[kind]
        burst = self._burst(rule)
        earned = int(rule.rate * (now - self._since[kind]))
        left = self._left[kind] + earned
        if left < 0:
            seconds = now - self._begun[kind]
            raise RemoteProtocolError(
                "flood",
                f"{self._granted[kind] - self._left[kind]} {rule.name} in {seconds:.2f} s, "
                f"at most {burst} and {rule.rate} a second",
            )
        self._since[kind] = now
        if left < burst:
            self._left[kind] = left
            self._granted[kind] += earned
        else:
            self._left[kind] = self._granted[kind] = burst
            self._begun[kind] = now

    def _burst(self, rule: _Rule) -> int:
        return rule.burst + rule.per_channel * self._channels
