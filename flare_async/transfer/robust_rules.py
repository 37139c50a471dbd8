"""What a robust mean makes of all updates of a round: median, trimmed mean, Krum."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from flare_async.errors import ConfigError

__all__ = ["Block", "Chunks", "Krum", "Median", "RobustRule", "TrimmedMean", "robust_rule"]

Block: TypeAlias = npt.NDArray[np.float64]  # a row an update, in the order of the cohort
_ROUNDING: Final = 1e-9  # 0.29 of 100 sites is 29, not 28.999999999999996


class Chunks(Protocol):
    """All updates, to be read together as often as it takes."""

    @property
    def count(self) -> int:
        """How many updates there are."""

    def tensors(self) -> Iterator[Iterator[Block]]:
        """Yield the blocks of each tensor."""


class RobustRule(ABC):
    """How values of several updates become one; ``least`` is how many updates it needs."""

    @property
    def least(self) -> int:
        """How many updates it needs."""
        return 1

    def select(self, updates: Chunks) -> Sequence[int]:
        """Return which updates are combined, by their places; all of them unless overridden."""
        return range(updates.count)

    @abstractmethod
    def combine(self, block: Block) -> Block:
        """Return one value for each column."""


@dataclass(frozen=True)
class Median(RobustRule):
    """The median of each element (Yin et al., ICML 2018, algorithm 1, option I).

    Of an even number of values it is the mean of the two in the middle.
    """

    def combine(self, block: Block) -> Block:
        """Return the median of each column."""
        median: Block = np.median(block, axis=0)
        return median


@dataclass(frozen=True)
class TrimmedMean(RobustRule):
    """The mean of each element without its extremes (Yin et al., algorithm 1, option II).

    Of n values the ``floor(beta * n)`` smallest and as many of the largest are left out: nothing
    of fewer than ``1 / beta`` values.

    Raises:
        ConfigError: ``beta`` is not from 0 to below 0.5.
    """

    beta: float = 0.1

    def __post_init__(self) -> None:
        beta: object = self.beta
        if isinstance(beta, bool) or not isinstance(beta, int | float) or not 0 <= beta < 0.5:
            raise ConfigError("beta", self.beta, "a fraction from 0 to below 0.5 is needed")

    def combine(self, block: Block) -> Block:
        """Return the trimmed mean of each column."""
        count = len(block)
        cut = min(math.floor(self.beta * count + _ROUNDING), (count - 1) // 2)
        mean: Block = np.sort(block, axis=0)[cut : count - cut].mean(axis=0)
        return mean


@dataclass(frozen=True)
class Krum(RobustRule):
    """The update nearest to its neighbours (Blanchard et al., NeurIPS 2017), or the mean of ``m``.

    With n updates of which up to ``f`` may be anything, the score of update i is the sum of its
    squared Euclidean distances to the n - f - 2 others that are nearest to it. The update with the
    least score is taken, of equal ones the first in the order of the cohort; with ``m`` above 1 the
    mean of the m least (multi-Krum). At least ``2 f + 3`` updates are needed, and m of them.

    Raises:
        ConfigError: ``f`` or ``m`` is no such number.
    """

    f: int = 1
    m: int = 1

    def __post_init__(self) -> None:
        for name, least in (("f", 0), ("m", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ConfigError(name, value, f"an integer of at least {least} is needed")

    @property
    def least(self) -> int:
        """``2 f + 3``, so that those that are as they should be are the majority around each."""
        return max(2 * self.f + 3, self.m + self.f + 2)

    def select(self, updates: Chunks) -> Sequence[int]:
        """Return the places of the ``m`` updates with the least scores, in order."""
        count = updates.count
        distances = self._distances(updates)
        np.fill_diagonal(distances, 0.0)
        nearest = np.sort(distances, axis=1)[:, 1 : count - self.f - 1]  # the first is itself
        scores = nearest.sum(axis=1)
        return sorted(np.argsort(scores, kind="stable")[: self.m].tolist())

    def combine(self, block: Block) -> Block:
        """Return the mean of each column of the chosen updates."""
        mean: Block = block.mean(axis=0)
        return mean

    def _distances(self, updates: Chunks) -> Block:
        squares = np.zeros((updates.count, updates.count))
        for blocks in updates.tensors():
            for block in blocks:
                for row in range(len(block) - 1):
                    apart = block[row + 1 :] - block[row]
                    squares[row, row + 1 :] += np.einsum("ij,ij->i", apart, apart)
        return squares + squares.T


_BY_NAME: Final[Mapping[str, RobustRule]] = {
    "median": Median(),
    "trimmed_mean": TrimmedMean(),
    "krum": Krum(),
}


def robust_rule(value: object) -> RobustRule | None:
    """Return the rule that a recipe's ``aggregator=`` stands for; None where it is none.

    Raises:
        ConfigError: it is a name that no rule has.
    """
    if isinstance(value, str):
        if value not in _BY_NAME:
            known = ", ".join(_BY_NAME)
            raise ConfigError("aggregator", value, "no such aggregator", f"known: {known}")
        return _BY_NAME[value]
    return value if isinstance(value, RobustRule) else None
