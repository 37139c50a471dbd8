"""Generators of statistics for the tests, in a file that worker processes can load."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from flare_async.recipes.statistics import (
    Bin,
    DataType,
    Digest,
    Feature,
    Histogram,
    HistogramType,
    Statistics,
)

ROWS = (70, 55, 0, 40)


def data_of(index):
    """Return a site's data: the third site has no rows, the second a feature of its own."""
    rng = np.random.default_rng([7, index])
    rows = ROWS[index]
    fare = rng.normal(3e3, 40, rows)
    fare[::9] = np.nan
    train = {"age": rng.integers(17, 91, rows), "fare": fare}
    if index == 1:
        train["extra"] = rng.exponential(size=rows)
    return {"train": train, "test": {"age": rng.integers(17, 91, 2 * rows)}}


def parts_of(dataset, feature):
    """Return the arrays of all sites that have a feature."""
    found = [data_of(index).get(dataset, {}) for index in range(len(ROWS))]
    return [one[feature] for one in found if feature in one]


class Arrays(Statistics):
    """Statistics of NumPy arrays; ``failing`` is a site that raises in ``where``."""

    def __init__(self, failing="", where=""):
        self.failing, self.where = failing, where
        self.calls = []

    def initialize(self, site):
        """Load the site's data."""
        self.site = site.name
        self.data = data_of(site.index)

    def values(self, dataset, feature, method=""):
        """Return what is finite."""
        if (self.site, method) == (self.failing, self.where):
            raise ValueError("no access to the data")
        rows = np.asarray(self.data[dataset][feature], dtype=float)
        return rows[np.isfinite(rows)]

    def features(self):
        """Return integers and floats, and a text that has no statistics."""
        kinds = {"i": DataType.INT, "f": DataType.FLOAT}
        found = {
            dataset: [Feature(name, kinds[rows.dtype.kind]) for name, rows in features.items()]
            for dataset, features in self.data.items()
        }
        found["train"].append(Feature("name", DataType.STRING))
        return found

    def count(self, dataset, feature):
        """Return how many values there are."""
        return len(self.values(dataset, feature, "count"))

    def failure_count(self, dataset, feature):
        """Return how many are missing."""
        return len(self.data[dataset][feature]) - len(self.values(dataset, feature))

    def sum(self, dataset, feature):
        """Return the sum."""
        return self.values(dataset, feature, "sum").sum()

    def mean(self, dataset, feature):
        """Return the mean."""
        return self.values(dataset, feature).mean()

    def stddev(self, dataset, feature):
        """Return the standard deviation."""
        return self.values(dataset, feature).std(ddof=1)

    def variance_with_mean(self, dataset, feature, mean, count):
        """Return this site's part."""
        away = self.values(dataset, feature, "variance") - mean
        return (away**2).sum() / (count - 1)

    def histogram(self, dataset, feature, bins, low, high):
        """Return NumPy's bins."""
        counts, edges = np.histogram(self.values(dataset, feature), bins, (low, high))
        rows = [Bin(*row) for row in zip(edges, edges[1:], counts, strict=False)]
        return Histogram(HistogramType.STANDARD, rows)

    def max_value(self, dataset, feature):
        """Return the maximum."""
        return self.values(dataset, feature).max()

    def min_value(self, dataset, feature):
        """Return the minimum."""
        return self.values(dataset, feature).min()

    def quantiles(self, dataset, feature, percents):
        """Return the digest."""
        return Digest.of(self.values(dataset, feature))


class Recorded(Arrays):
    """Appends what is called to a file."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def write(self, word):
        """Append one line."""
        with Path(self.path).open("a", encoding="utf-8") as file:
            file.write(f"{self.site} {word} {os.getpid()}\n")

    def initialize(self, site):
        """Load the data, on record."""
        super().initialize(site)
        self.write("initialize")

    def pre_run(self, statistics, num_of_bins, bin_ranges):
        """Record what is asked for."""
        ranges = {name: tuple(ends) for name, ends in bin_ranges.items()}
        self.write(f"pre_run {','.join(statistics)} {num_of_bins} {ranges}")

    def finalize(self, site):
        """Record the end."""
        self.write("finalize")


class Wrong(Arrays):
    """Returns something that is no count."""

    def count(self, dataset, feature):
        """Return text."""
        return "many"
