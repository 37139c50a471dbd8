"""A generator for pandas: load a DataFrame a data set in ``initialize``, all else is here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from flare_async.errors import MissingExtra
from flare_async.recipes.statistics.digest import Digest
from flare_async.recipes.statistics.generator import Statistics
from flare_async.recipes.statistics.values import (
    Bin,
    DataType,
    Feature,
    Histogram,
    HistogramType,
)

if TYPE_CHECKING:
    import pandas
    from pandas import Series

__all__ = ["DFStatisticsCore"]


class DFStatisticsCore(Statistics):
    """The statistics of the DataFrames in ``self.data``, by the data set's name.

    Columns of integers, floats and booleans have statistics. NaN, None and infinities are failures
    and part of nothing else. ``max_bin`` is how many centroids a digest may have.

    Raises:
        MissingExtra: pandas is not installed.
    """

    def __init__(self, max_bin: int | None = None) -> None:
        self._kind = frame_class()  # who has no pandas is told here, not at the first site
        self.data: Mapping[str, pandas.DataFrame] = {}
        self.max_bin = max_bin

    def features(self) -> dict[str, list[Feature]]:
        """Return the columns of each frame.

        Raises:
            TypeError: there is no frame.
            ValueError: a frame has two columns of one name.
        """
        for name, frame in self.data.items():
            if not isinstance(cast("object", frame), self._kind):
                raise TypeError(f"data[{name!r}] is {type(frame).__name__}, use a DataFrame")
            if twice := repeated(frame):
                raise ValueError(f"data[{name!r}] has two columns of the name {twice[0]!r}")
        return {
            name: [
                Feature(str(column), data_type(cast("Series", frame[column])))
                for column in frame.columns
            ]
            for name, frame in self.data.items()
        }

    def values(self, dataset_name: str, feature_name: str) -> np.ndarray:
        """Return the usable values of a column as floats."""
        found = self.rows(dataset_name, feature_name)
        return np.compress(np.isfinite(found), found)

    def rows(self, dataset_name: str, feature_name: str) -> np.ndarray:
        """Return all rows of a column as floats; NaN where there is no value."""
        frame = self.data[dataset_name]
        column = next(name for name in frame.columns if str(name) == feature_name)
        rows = np.empty(len(frame))
        rows[:] = frame[column].to_numpy(dtype="float64", na_value=np.nan)
        return rows

    def count(self, dataset_name: str, feature_name: str) -> int:
        """Return how many values are usable."""
        return len(self.values(dataset_name, feature_name))

    def failure_count(self, dataset_name: str, feature_name: str) -> int:
        """Return how many rows are NaN, None or infinite."""
        rows = self.rows(dataset_name, feature_name)
        return len(rows) - self.count(dataset_name, feature_name)

    def sum(self, dataset_name: str, feature_name: str) -> float:
        """Return the sum."""
        return float(self.values(dataset_name, feature_name).sum())

    def mean(self, dataset_name: str, feature_name: str) -> float | None:
        """Return the mean; None without values."""
        values = self.values(dataset_name, feature_name)
        return float(values.mean()) if len(values) else None

    def stddev(self, dataset_name: str, feature_name: str) -> float | None:
        """Return the standard deviation with ``count - 1``; None below two values."""
        values = self.values(dataset_name, feature_name)
        return float(values.std(ddof=1)) if len(values) > 1 else None

    def variance_with_mean(
        self, dataset_name: str, feature_name: str, global_mean: float, global_count: float
    ) -> float:
        """Return this site's part of the variance."""
        away = self.values(dataset_name, feature_name) - global_mean
        return float((away * away).sum() / (global_count - 1))

    def histogram(
        self,
        dataset_name: str,
        feature_name: str,
        num_of_bins: int,
        global_min_value: float,
        global_max_value: float,
    ) -> Histogram:
        """Return NumPy's histogram; values outside of the range are in no bin."""
        values = self.values(dataset_name, feature_name)
        ends = (global_min_value, global_max_value)
        counts, edges = np.histogram(values, bins=num_of_bins, range=ends)
        bins = [
            Bin(float(low), float(high), int(count))
            for low, high, count in zip(edges, edges[1:], counts, strict=False)
        ]
        return Histogram(HistogramType.STANDARD, bins)

    def max_value(self, dataset_name: str, feature_name: str) -> float | None:
        """Return the largest value; None without values."""
        values = self.values(dataset_name, feature_name)
        return float(values.max()) if len(values) else None

    def min_value(self, dataset_name: str, feature_name: str) -> float | None:
        """Return the smallest value; None without values."""
        values = self.values(dataset_name, feature_name)
        return float(values.min()) if len(values) else None

    def quantiles(self, dataset_name: str, feature_name: str, percents: Sequence[float]) -> Digest:
        """Return the digest of the values."""
        return Digest.of(self.values(dataset_name, feature_name), self.max_bin or 200)


def frame_class() -> type:
    """Return pandas' class of frames. Raises MissingExtra."""
    try:
        import pandas
    except ImportError as exc:
        raise MissingExtra("pandas", "pandas") from exc
    kind: type = pandas.DataFrame
    return kind


def repeated(frame: pandas.DataFrame) -> list[object]:
    """Return the names that two columns have."""
    return list(frame.columns[frame.columns.duplicated()])


def data_type(column: pandas.Series) -> DataType:
    """Return what a column's values are."""
    from pandas.api import types

    if types.is_bool_dtype(column.dtype) or types.is_integer_dtype(column.dtype):
        return DataType.INT
    if types.is_float_dtype(column.dtype):
        return DataType.FLOAT
    return DataType.DATETIME if types.is_datetime64_any_dtype(column.dtype) else DataType.STRING
