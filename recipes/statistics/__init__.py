"""Federated statistics: what a user writes, and what protects single values.

A subclass of ``Statistics`` (or, with pandas, of ``DFStatisticsCore``) says what one site's data
are like; ``FedStatsRecipe`` asks every site for them and puts them together. docs/statistics.md has
the whole.
"""

from __future__ import annotations

from flare_async.recipes.statistics.cleansers import (
    AddNoiseToMinMax,
    HistogramBinsCleanser,
    MinCountCleanser,
)
from flare_async.recipes.statistics.digest import Digest
from flare_async.recipes.statistics.frame import DFStatisticsCore
from flare_async.recipes.statistics.generator import Statistics
from flare_async.recipes.statistics.values import (
    Bin,
    BinRange,
    DataType,
    Feature,
    Histogram,
    HistogramType,
    StatisticConfig,
)

__all__ = [
    "AddNoiseToMinMax",
    "Bin",
    "BinRange",
    "DFStatisticsCore",
    "DataType",
    "Digest",
    "Feature",
    "Histogram",
    "HistogramBinsCleanser",
    "HistogramType",
    "MinCountCleanser",
    "StatisticConfig",
    "Statistics",
]
