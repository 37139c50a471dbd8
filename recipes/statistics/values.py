"""What a statistics generator says and returns: features, histograms, configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from flare_async.jobs.site import Plain

__all__ = [
    "NUMERIC",
    "Bin",
    "BinRange",
    "DataType",
    "Feature",
    "Histogram",
    "HistogramType",
    "StatisticConfig",
]


class DataType(IntEnum):
    """What a feature's values are; statistics are made of ``INT`` and ``FLOAT``."""

    INT = 0
    FLOAT = 1
    STRING = 2
    STRUCT = 3
    DATETIME = 4


NUMERIC: Final = frozenset({DataType.INT, DataType.FLOAT})


class Feature(NamedTuple):
    """A column of a data set."""

    feature_name: str
    data_type: DataType


class BinRange(NamedTuple):
    """Where a histogram begins and ends."""

    min_value: float
    max_value: float


class Bin(NamedTuple):
    """Values from ``low_value`` to below ``high_value``; the last bin has its end in it."""

    low_value: float
    high_value: float
    sample_count: int


class HistogramType(IntEnum):
    """How the bins of a histogram are chosen; those of this package have equal widths."""

    STANDARD = 0
    QUANTILES = 1


class Histogram(NamedTuple):
    """Bins from left to right."""

    hist_type: HistogramType
    bins: Sequence[Bin]
    hist_name: str | None = None


class StatisticConfig(NamedTuple):
    """A statistic that is wanted, and its options."""

    name: str
    config: Mapping[str, Plain]
