"""What keeps single values private: applied at the site, before anything leaves it.

A cleanser returns what may leave of one feature's statistics, or None where nothing may.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Final, Protocol

from flare_async.errors import ConfigError
from flare_async.recipes.statistics.digest import Digest
from flare_async.recipes.statistics.tables import CellReport

__all__ = [
    "AddNoiseToMinMax",
    "Cleanser",
    "HistogramBinsCleanser",
    "MinCountCleanser",
    "Privacy",
    "check_range",
]

ENDS: Final = ("min", "max")


class Cleanser(Protocol):
    """One rule about what may leave a site."""

    def apply(self, report: CellReport, count: int) -> CellReport | None:
        """Return what may leave; ``count`` values were looked at."""


@dataclass(frozen=True, slots=True)
class MinCountCleanser:
    """Lets nothing leave of fewer than ``min_count`` values, nor a centroid of fewer."""

    min_count: int
    max_centroids: int

    def apply(self, report: CellReport, count: int) -> CellReport | None:
        """Return the report with coarser centroids, or None."""
        if count < max(1, self.min_count):
            return None
        if report.digest is None:
            return report
        digest = report.digest.coarsened(self.min_count, self.max_centroids)
        return replace(report, digest=digest if digest != Digest((), ()) else None)


@dataclass(frozen=True, slots=True)
class AddNoiseToMinMax:
    """Moves minimum and maximum outwards by a random share of their size.

    The share is drawn between the two levels from ``source``; the true range stays inside. A zero
    is moved by a share of the other end, or of 1.
    """

    min_noise_level: float
    max_noise_level: float
    source: random.Random

    def apply(self, report: CellReport, count: int) -> CellReport | None:
        """Return the report with noise in ``min`` and ``max``."""
        values = dict(report.values)
        largest = max((abs(values[name]) for name in ENDS if name in values), default=0.0)
        for name, sign in zip(ENDS, (-1, 1), strict=True):
            share = self.source.uniform(self.min_noise_level, self.max_noise_level)
            if name in values:
                values[name] += sign * share * (abs(values[name]) or largest or 1.0)
        return replace(report, values=values)


@dataclass(frozen=True, slots=True)
class HistogramBinsCleanser:
    """Lets no histogram leave with more bins than ``max_bins_percent`` of the number of values."""

    max_bins_percent: float

    def apply(self, report: CellReport, count: int) -> CellReport | None:
        """Return the report, without its histogram where that is too fine."""
        bins = report.histogram
        if bins is None or len(bins) <= count * self.max_bins_percent / 100:
            return report
        return replace(report, histogram=None)


@dataclass(frozen=True, slots=True)
class Privacy:
    """The levels of all cleansers, checked; ``seeded`` noise can be repeated, in a simulation.

    Raises:
        ConfigError: a level cannot be used; the error names it.
    """

    min_count: int = 10
    min_noise_level: float = 0.1
    max_noise_level: float = 0.3
    max_bins_percent: float = 10
    max_centroids: int = 200
    seeded: bool = False

    def __post_init__(self) -> None:
        for name, least in (("min_count", 0), ("max_centroids", 10)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError(name, value, f"an integer of at least {least} is needed")
        check_range("min_noise_level", self.min_noise_level, 0, 1)
        check_range("max_noise_level", self.max_noise_level, self.min_noise_level, 1)
        check_range("max_bins_percent", self.max_bins_percent, 0, 100)

    def cleansers(self, source: random.Random) -> tuple[Cleanser, ...]:
        """Return the cleansers in the order in which they are applied."""
        return (
            MinCountCleanser(self.min_count, self.max_centroids),
            AddNoiseToMinMax(self.min_noise_level, self.max_noise_level, source),
            HistogramBinsCleanser(self.max_bins_percent),
        )


def check_range(name: str, value: object, least: float, most: float) -> None:
    """Refuse what is no number in a range. Raises ConfigError."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise ConfigError(name, value, f"a number from {least:g} to {most:g} is needed")
