"""What a network is like: how long bytes travel, how many fit, how many are lost."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Final

from flare_async.errors import ConfigError
from flare_async.testing.spread import Spread

__all__ = ["PACKET_BYTES", "Course", "Line", "Profile"]

PACKET_BYTES: Final = 1448  # of payload in an Ethernet frame with TCP's usual options
_NOTHING: Final = Spread.constant(0.0)


@dataclass(frozen=True, slots=True)
class Line:
    """One direction of a site's links.

    ``latency`` (seconds) and ``bandwidth`` (bytes a second; None is no bound) differ from site to
    site: each draws its own, once. ``jitter`` is the mean of what a frame takes longer, of an
    exponential distribution. ``loss`` is the share of packets that are lost: a stream loses nothing
    by it but time, a round trip for each try.

    Raises:
        ConfigError: a value that no line has; the error names the field.
    """

    latency: Spread = field(default=_NOTHING)
    bandwidth: Spread | None = None
    jitter: float = 0.0
    loss: float = 0.0

    def __post_init__(self) -> None:
        if self.bandwidth is not None and not self.bandwidth.median > 0:
            raise ConfigError("bandwidth", self.bandwidth.median, "must be positive, or left out")
        if not 0 <= self.jitter < math.inf:
            raise ConfigError("jitter", self.jitter, "seconds from 0 on are needed")
        if not 0 <= self.loss < 0.5:
            raise ConfigError("loss", self.loss, "a share of packets from 0 to below 0.5 is needed")

    def drawn(self, dice: random.Random) -> Course:
        """Return what one site has of it."""
        rate = math.inf if self.bandwidth is None else self.bandwidth.draw(dice)
        return Course(self.latency.draw(dice), rate, self.jitter, self.loss)


@dataclass(frozen=True, slots=True)
class Course:
    """One direction of one site's links: seconds, bytes a second, seconds, share of packets."""

    latency: float
    rate: float
    jitter: float = 0.0
    loss: float = 0.0

    @property
    def is_steady(self) -> bool:
        """Whether every frame takes the same time, so that nothing need be drawn."""
        return not self.jitter and not self.loss

    def delay(self, nbytes: int, dice: random.Random) -> float:
        """Return the seconds that a frame of so many bytes travels, drawn anew for each."""
        seconds = self.latency
        if self.jitter:
            seconds -= math.log(1.0 - dice.random()) * self.jitter  # what expovariate(1) does
        if self.loss:
            kept = (1.0 - self.loss) ** -(-nbytes // PACKET_BYTES)
            pause = 2.0 * self.latency
            while dice.random() >= kept:
                seconds += pause
                pause, kept = 2.0 * pause, 1.0 - self.loss  # the one that was sent again
        return seconds


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of network: what a site sends goes ``up``, what it receives comes ``down``."""

    name: str
    up: Line
    down: Line
