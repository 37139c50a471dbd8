"""The result: ``{feature: {statistic: {site or "Global": {data set: value}}}}``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from flare_async.recipes.statistics.configs import STATISTICS
from flare_async.recipes.statistics.digest import Digest
from flare_async.recipes.statistics.plan import Cell
from flare_async.recipes.statistics.pooled import Pooled, edges_of
from flare_async.recipes.statistics.tables import CellReport

__all__ = ["GLOBAL", "Document", "Value", "document_of"]

GLOBAL: Final = "Global"
COUNTS: Final = frozenset({"count", "failure_count"})

Value: TypeAlias = float | int | list[list[float]] | dict[str, float]
Document: TypeAlias = dict[str, dict[str, dict[str, dict[str, Value]]]]


def document_of(pooled: Pooled, precision: int | None, max_centroids: int) -> Document:
    """Return all that was asked for, of every site and of all together.

    Floats have ``precision`` decimal places, or all they have. What a site did not tell, and what
    nothing can be said of, has no entry.
    """
    writer = Writer(pooled, precision, max_centroids)
    document: Document = {cell.feature: {} for cell in pooled.cells}
    for name in STATISTICS:
        if name not in pooled.wanted.names:
            continue
        for cell in pooled.cells:
            for site, value in writer.values(name, cell):
                by_site = document[cell.feature].setdefault(name, {})
                by_site.setdefault(site, {})[cell.dataset] = value
    return document


class Writer:
    """Turns reports into values of the document."""

    def __init__(self, pooled: Pooled, precision: int | None, max_centroids: int) -> None:
        self._pooled = pooled
        self._precision = precision
        self._max_centroids = max_centroids

    def values(self, name: str, cell: Cell) -> Iterator[tuple[str, Value]]:
        """Yield a statistic of each site that told it, then of all together."""
        pooled = self._pooled
        reports = pooled.second if name == "histogram" else pooled.first
        for site, told in reports.items():
            if cell in told and (value := self._of_site(name, cell, told[cell])) is not None:
                yield site, value
        if (value := self._of_all(name, cell)) is not None:
            yield GLOBAL, value

    def _of_site(self, name: str, cell: Cell, report: CellReport) -> Value | None:
        if name == "histogram":
            return self._bins(cell, report.histogram)
        if name == "quantile":
            return self._quantiles(cell, report.digest)
        if name == "var":
            spread = report.values.get("stddev")
            return None if spread is None else self._number(name, spread * spread)
        return self._number(name, report.values.get(name))

    def _of_all(self, name: str, cell: Cell) -> Value | None:
        pooled = self._pooled
        if name == "histogram":
            return self._bins(cell, pooled.histogram(cell))
        if name == "quantile":
            return self._quantiles(cell, pooled.digest(cell, self._max_centroids))
        return self._number(name, pooled.number(cell, name))

    def _number(self, name: str, value: float | None) -> float | int | None:
        if value is None or not math.isfinite(value):
            return None
        return int(value) if name in COUNTS else self._rounded(value)

    def _rounded(self, value: float) -> float:
        return value if self._precision is None else round(value, self._precision)

    def _bins(self, cell: Cell, counts: tuple[int, ...] | None) -> list[list[float]] | None:
        ends = self._pooled.ends(cell)
        if counts is None or ends is None:
            return None
        edges = [self._rounded(edge) for edge in edges_of(ends, len(counts))]
        return [list(row) for row in zip(edges, edges[1:], counts, strict=False)]

    def _quantiles(self, cell: Cell, digest: Digest | None) -> dict[str, float] | None:
        if digest is None:
            return None
        found: Mapping[float, float | None] = {
            share: digest.quantile(share) for share in self._pooled.wanted.quantiles(cell.feature)
        }
        return {f"{at:g}": self._rounded(value) for at, value in found.items() if value is not None}
