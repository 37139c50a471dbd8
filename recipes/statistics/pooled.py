"""The arithmetic of all sites together, one cell at a time.

With n values at all sites, S_k the sum of squared deviations from the global mean m at site k:

    mean = sum_k sum_k(x) / n,    var = sum_k S_k / (n - 1),    stddev = sqrt(var).

Where a site that is in m is lost before its S_k came, the others have n' values with the mean m',
and sum_k S_k - n' * (m - m')**2 takes the place of the sum: no site has to be asked again. Sums are
exact before they are rounded (``math.fsum``), so the order of the sites changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from flare_async.recipes.statistics.configs import Wanted
from flare_async.recipes.statistics.digest import Digest
from flare_async.recipes.statistics.plan import Cell, Common, Plan
from flare_async.recipes.statistics.tables import CellReport, Reports
from flare_async.recipes.statistics.values import BinRange, Feature

__all__ = ["Pooled", "cells_of", "edges_of"]


@dataclass(frozen=True, slots=True)
class Pooled:
    """What sites have said, in the order of the cohort."""

    wanted: Wanted
    cells: tuple[Cell, ...]
    first: Mapping[str, Reports]
    second: Mapping[str, Reports] = field(default_factory=dict)
    common: Mapping[Cell, Common] = field(default_factory=dict)  # what the second step was told

    def told(self, cell: Cell, name: str) -> list[float]:
        """Return a number of the first step, of every site that told it."""
        reports = (reports.get(cell, CellReport()) for reports in self.first.values())
        return [report.values[name] for report in reports if name in report.values]

    def total(self, cell: Cell, name: str) -> float | None:
        """Return the sum of a number over the sites; None where none has told it."""
        found = self.told(cell, name)
        return math.fsum(found) if found else None

    def mean(self, cell: Cell) -> float | None:
        """Return the mean of all values."""
        return mean_of(report for reports in self.first.values() if (report := reports.get(cell)))

    def ends(self, cell: Cell) -> BinRange | None:
        """Return the range of a cell's histogram: the one of the configuration, or of all values.

        A range without width is widened, as NumPy does it.
        """
        bins = self.wanted.bins(cell.feature)
        if bins is None or bins.range is not None:
            return None if bins is None else bins.range
        low = min(self.told(cell, "min"), default=None)
        high = max(self.told(cell, "max"), default=None)
        if low is None or high is None:
            return None
        return BinRange(low, high) if low < high else BinRange(low - 0.5, high + 0.5)

    def plan(self) -> Plan:
        """Return what sites are asked for in the second step."""
        return Plan(2, self.cells, tuple(map(self._common, self.cells)))

    def _common(self, cell: Cell) -> Common:
        count = self.total(cell, "count") or 0.0
        ends = self.ends(cell)
        low, high = (None, None) if ends is None else ends
        return Common(count, self.mean(cell) if self.wanted.second else None, low, high)

    def var(self, cell: Cell) -> float | None:
        """Return the variance of all values of those sites that had a part in it."""
        common = self.common.get(cell, Common())
        sites = [site for site, reports in self.second.items() if "var" in said(reports, cell)]
        firsts = [self.first[site][cell] for site in sites if cell in self.first[site]]
        count = math.fsum(report.values["count"] for report in firsts)
        mean = mean_of(firsts)
        if count < 2 or mean is None or common.mean is None:
            return None
        parts = [said(self.second[site], cell)["var"] * (common.count - 1) for site in sites]
        squares = math.fsum(parts)
        if count != common.count:
            away = common.mean - mean
            squares -= count * away * away
        return max(0.0, squares) / (count - 1)

    def histogram(self, cell: Cell) -> tuple[int, ...] | None:
        """Return the counts of all sites together."""
        found = [
            report.histogram
            for reports in self.second.values()
            if (report := reports.get(cell)) and report.histogram is not None
        ]
        return tuple(map(sum, zip(*found, strict=True))) if found else None

    def digest(self, cell: Cell, max_centroids: int) -> Digest | None:
        """Return the digest of all values."""
        reports = (reports.get(cell) for reports in self.first.values())
        found = [report.digest for report in reports if report and report.digest]
        return Digest.merged(found, max_centroids) if found else None

    def number(self, cell: Cell, name: str) -> float | None:
        """Return a global number by its name."""
        ways: dict[str, Callable[[], float | None]] = {
            "mean": lambda: self.mean(cell),
            "var": lambda: self.var(cell),
            "stddev": lambda: root(self.var(cell)),
            "min": lambda: min(self.told(cell, "min"), default=None),
            "max": lambda: max(self.told(cell, "max"), default=None),
        }
        return ways.get(name, lambda: self.total(cell, name))()


def said(reports: Reports, cell: Cell) -> Mapping[str, float]:
    """Return the numbers that a site told of a cell."""
    report = reports.get(cell)
    return {} if report is None else report.values


def mean_of(reports: Iterable[CellReport]) -> float | None:
    """Return the mean over sites that told a sum; None without values."""
    told = [report.values for report in reports if "sum" in report.values]
    count = math.fsum(values["count"] for values in told)
    return math.fsum(values["sum"] for values in told) / count if count else None


def root(value: float | None) -> float | None:
    """Return the square root, if there is something to take it of."""
    return None if value is None else math.sqrt(value)


def edges_of(ends: BinRange, count: int) -> list[float]:
    """Return the ends of a histogram's bins."""
    return [float(edge) for edge in np.linspace(ends.min_value, ends.max_value, count + 1)]


def cells_of(features: Iterable[Mapping[str, Sequence[Feature]]]) -> tuple[Cell, ...]:
    """Return the cells that any site has, in the order in which they first come."""
    return tuple(
        dict.fromkeys(
            Cell(dataset, feature.feature_name)
            for one in features
            for dataset, found in one.items()
            for feature in found
        )
    )
