"""A site's answer as tensors: one row a cell, the same for every site.

``values`` has a column for each number and ``present`` says which of them there are, because a
tensor on its way may hold no NaN. Histograms and centroids have as many columns as the largest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np

from flare_async.errors import TensorFormatError
from flare_async.recipes.statistics.configs import Wanted
from flare_async.recipes.statistics.digest import Digest
from flare_async.recipes.statistics.plan import Cell, Plan

__all__ = ["CellReport", "Reports", "Tables"]

WHOLE: Final = frozenset({"count", "failure_count"})
MOST: Final = 2**53  # whole numbers that a float64 can tell apart
LARGEST: Final = 2.0**1000  # of any number: sums over sites stay finite
NOT_NEGATIVE: Final = frozenset({"stddev", "var"})


@dataclass(frozen=True, slots=True)
class CellReport:
    """What one site says of one cell: numbers by name, the counts of bins, a digest."""

    values: Mapping[str, float] = field(default_factory=dict)
    histogram: tuple[int, ...] | None = None
    digest: Digest | None = None


Reports: TypeAlias = dict[Cell, CellReport]


@dataclass(frozen=True, slots=True)
class Tables:
    """The tensors of one step; ``max_centroids`` is how many a digest has room for."""

    plan: Plan
    wanted: Wanted
    max_centroids: int

    @property
    def names(self) -> tuple[str, ...]:
        """The numbers of this step."""
        return self.wanted.first if self.plan.step == 1 else self.wanted.second

    def empty(self) -> dict[str, np.ndarray]:
        """Return the tensors without any value, and the plan: what sites are sent."""
        cells, names = len(self.plan.cells), len(self.names)
        found = {"plan": self.plan.to_bytes(), "told": np.zeros(cells, np.uint8)}
        if names:
            found["values"] = np.zeros((cells, names), np.float64)
            found["present"] = np.zeros((cells, names), np.uint8)
        if self.plan.step == 1 and self.wanted.percents:
            found["means"] = np.zeros((cells, self.max_centroids), np.float64)
            found["weights"] = np.zeros((cells, self.max_centroids), np.float64)
        if self.plan.step == 2 and self.wanted.histograms:
            most = max(bins.count for bins in self.wanted.histograms.values())
            found["bins"] = np.zeros((cells, most), np.int64)
            found["binned"] = np.zeros(cells, np.uint8)
        return found

    def filled(self, reports: Reports) -> dict[str, np.ndarray]:
        """Return the tensors with what a site says; it has no say where it has no report."""
        tensors = self.empty()
        for row, cell in enumerate(self.plan.cells):
            if (report := reports.get(cell)) is not None:
                self._fill(tensors, row, report)
        return tensors

    def _fill(self, tensors: dict[str, np.ndarray], row: int, report: CellReport) -> None:
        tensors["told"][row] = 1
        for column, name in enumerate(self.names):
            if name in report.values:
                tensors["values"][row, column] = report.values[name]
                tensors["present"][row, column] = 1
        if report.digest is not None:
            count = len(report.digest.means)
            tensors["means"][row, :count] = report.digest.means
            tensors["weights"][row, :count] = report.digest.weights
        if report.histogram is not None:
            tensors["bins"][row, : len(report.histogram)] = report.histogram
            tensors["binned"][row] = 1

    def read(self, tensors: Mapping[str, np.ndarray]) -> Reports:
        """Return what tensors of the right names, types and shapes say.

        Raises:
            TensorFormatError: a number is none that such a statistic can have.
        """
        return dict(self.rows(tensors))

    def rows(self, tensors: Mapping[str, np.ndarray]) -> Iterator[tuple[Cell, CellReport]]:
        """Yield what they say of each cell. Raises as ``read``."""
        for row, cell in enumerate(self.plan.cells):
            if tensors["told"][row]:
                yield cell, self._read(tensors, row, cell)

    def _read(self, tensors: Mapping[str, np.ndarray], row: int, cell: Cell) -> CellReport:
        values = {
            name: float(tensors["values"][row, column])
            for column, name in enumerate(self.names)
            if tensors["present"][row, column]
        }
        check_values(cell, values)
        if self.plan.step == 1 and "count" not in values:
            raise TensorFormatError(f"{cell}: no count")
        digest = None
        if "means" in tensors:
            digest = digest_of(cell, tensors["means"][row], tensors["weights"][row])
        histogram = None
        bins = self.wanted.bins(cell.feature)
        if bins is not None and "binned" in tensors and tensors["binned"][row]:
            counts = tensors["bins"][row, : bins.count]
            if (counts < 0).any() or (counts > MOST).any():
                raise TensorFormatError(f"{cell}: a bin's count is not from 0 to 2**53")
            if tensors["bins"][row, bins.count :].any():
                raise TensorFormatError(f"{cell}: a count beyond the last of {bins.count} bins")
            histogram = tuple(int(count) for count in counts)
        return CellReport(values, histogram, digest)


def check_values(cell: Cell, values: Mapping[str, float]) -> None:
    """Refuse numbers that a statistic cannot have. Raises TensorFormatError."""
    for name, value in values.items():
        bad = name in WHOLE and (value < 0 or not value.is_integer() or value > MOST)
        bad = bad or not abs(value) <= LARGEST  # NaN too
        if bad or (name in NOT_NEGATIVE and value < 0):
            raise TensorFormatError(f"{cell}: {value:g} is no {name}")
    if values.get("min", -LARGEST) > values.get("max", LARGEST):
        raise TensorFormatError(f"{cell}: min {values['min']:g} is above max {values['max']:g}")


def digest_of(cell: Cell, means: np.ndarray, weights: np.ndarray) -> Digest | None:
    """Return the digest in a row; None where it is empty. Raises TensorFormatError."""
    used = weights != 0
    count = int(used.sum())
    if not used[:count].all() or means[count:].any():
        raise TensorFormatError(f"{cell}: a centroid without weight")
    if count == 0:
        return None
    if not np.abs(means).max() <= LARGEST or not 0 < weights.max() <= MOST:
        raise TensorFormatError(f"{cell}: a centroid beyond 2**1000, or of more than 2**53 values")
    try:
        return Digest(tuple(map(float, means[:count])), tuple(map(float, weights[:count])))
    except ValueError as exc:
        raise TensorFormatError(f"{cell}: {exc}") from exc
