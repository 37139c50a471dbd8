"""What an update counts that was made from an older version of the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from flare_async.errors import ConfigError

__all__ = ["STALENESS", "Staleness", "hinge", "polynomial", "staleness_of"]

Staleness: TypeAlias = Callable[[int], float]


def constant(staleness: int) -> float:
    """Return 1: age is no matter."""
    del staleness
    return 1.0


def inverse_sqrt(staleness: int) -> float:
    """Return 1 / sqrt(1 + s) (Nguyen et al. 2022)."""
    return 1.0 / math.sqrt(1.0 + staleness)


def edge(staleness: int) -> float:
    """Return 1 / (1 + sqrt(s)), as NVFlare's Edge recipes do."""
    return 1.0 / (1.0 + math.sqrt(staleness))


def polynomial(a: float = 0.5) -> Staleness:
    """Return (1 + s) ** -a (Xie et al. 2019)."""
    return lambda staleness: (1.0 + staleness) ** -a


def hinge(a: float = 10.0, b: float = 4.0) -> Staleness:
    """Return 1 up to ``b`` and 1 / (a (s - b) + 1) beyond (Xie et al. 2019)."""
    return lambda staleness: 1.0 if staleness <= b else 1.0 / (a * (staleness - b) + 1.0)


STALENESS: Final[Mapping[str, Staleness]] = {
    "constant": constant,
    "inverse_sqrt": inverse_sqrt,
    "edge": edge,
    "polynomial": polynomial(),
    "hinge": hinge(),
}


def staleness_of(value: object) -> Staleness:
    """Return the function that a recipe's ``staleness=`` stands for.

    Raises:
        ConfigError: it is no name of one, or a function that gives no number above 0.
    """
    if isinstance(value, str) and value in STALENESS:
        return STALENESS[value]
    if not callable(value):
        known = ", ".join(STALENESS)
        raise ConfigError("staleness", value, "is unknown", f"use one of {known}, or a function")

    def checked(staleness: int) -> float:
        found: object = value(staleness)
        number = isinstance(found, int | float) and math.isfinite(found)
        if not number or not isinstance(found, int | float) or found < 0:
            problem = f"gives {found!r:.40} for {staleness}, not a number of at least 0"
            raise ConfigError("staleness", getattr(value, "__qualname__", value), problem)
        return float(found)

    checked(0)
    return checked
