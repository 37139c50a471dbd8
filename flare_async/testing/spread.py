"""How values differ: between sites, between tasks, between pieces on the way.

A spread is told by its median and by the value that a twentieth lies beyond, because these are what
a measurement gives and what a person can judge. Between and beyond, it is log-normal: durations and
rates are, near enough, and none is negative. Draws stop at ``REACH`` times the distance that the
twentieth has from the median (in logarithms), so that no draw of a million is absurd.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Final, Self

from flare_async.errors import ConfigError

__all__ = ["Spread"]

TWENTIETH: Final = 1.6448536269514722  # standard deviations beyond which lies a twentieth
REACH: Final = 2.0


@dataclass(frozen=True, slots=True)
class Spread:
    """Positive values around ``median``; a twentieth lies beyond ``far``, above or below it.

    Raises:
        ConfigError: one is not a finite number, or negative, or only one of them is 0.
    """

    median: float
    far: float

    def __post_init__(self) -> None:
        for name in ("median", "far"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ConfigError(f"Spread.{name}", value, "a number from 0 on is needed")
        if (self.median == 0) != (self.far == 0):
            raise ConfigError("Spread.far", self.far, f"contradicts the median {self.median:g}")

    @classmethod
    def constant(cls, value: float) -> Self:
        """Return a spread of one value."""
        return cls(value, value)

    def draw(self, dice: random.Random) -> float:
        """Return one value; a constant spread draws nothing."""
        if self.far == self.median:
            return self.median
        reach = REACH * TWENTIETH
        steps = min(max(dice.gauss(0.0, 1.0), -reach), reach)
        return self.median * math.pow(self.far / self.median, steps / TWENTIETH)

    def scaled(self, factor: float) -> Spread:
        """Return the spread of values that are so many times as large."""
        return Spread(self.median * factor, self.far * factor)
