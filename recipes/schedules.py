"""How a server's learning rate changes from round to round."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from flare_async.errors import ConfigError

__all__ = ["Constant", "CosineDecay", "ExponentialDecay", "Schedule", "StepDecay"]


class Schedule(Protocol):
    """A factor for the learning rate, by the number of steps that were taken before."""

    def factor(self, steps: int) -> float:
        """Return what the first learning rate is multiplied with."""


@dataclass(frozen=True, slots=True)
class Constant:
    """The same rate in every round."""

    def factor(self, steps: int) -> float:
        """Return 1."""
        return 1.0 if steps >= 0 else math.nan


@dataclass(frozen=True, slots=True)
class CosineDecay:
    """Half a cosine from 1 down to ``alpha`` in ``decay_steps`` rounds, and ``alpha`` from then on.

    Raises:
        ConfigError: a number is out of range.
    """

    decay_steps: int
    alpha: float = 0.0

    def __post_init__(self) -> None:
        check_rounds("decay_steps", self.decay_steps)
        check_factor("alpha", self.alpha)

    def factor(self, steps: int) -> float:
        """Return the cosine's value after so many steps."""
        part = min(steps, self.decay_steps) / self.decay_steps
        return (1 - self.alpha) * 0.5 * (1 + math.cos(math.pi * part)) + self.alpha


@dataclass(frozen=True, slots=True)
class ExponentialDecay:
    """``gamma`` to the power of the steps. Raises ConfigError for a ``gamma`` out of range."""

    gamma: float

    def __post_init__(self) -> None:
        check_factor("gamma", self.gamma)

    def factor(self, steps: int) -> float:
        """Return the power."""
        return self.gamma**steps


@dataclass(frozen=True, slots=True)
class StepDecay:
    """Times ``gamma`` after every ``step_size`` rounds. Raises ConfigError."""

    step_size: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        check_rounds("step_size", self.step_size)
        check_factor("gamma", self.gamma)

    def factor(self, steps: int) -> float:
        """Return the power that is reached by now."""
        return self.gamma ** (steps // self.step_size)


def check_rounds(field: str, value: object) -> None:
    """Refuse what is no number of rounds. Raises ConfigError."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"lr_scheduler_args.{field}", value, "rounds from 1 on are needed")


def check_factor(field: str, value: object) -> None:
    """Refuse what is no factor. Raises ConfigError."""
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigError(f"lr_scheduler_args.{field}", value, "a number from 0 to 1 is needed")
