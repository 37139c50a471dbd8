"""Filters: what changes tensors on their way, cell by cell where it can.

They stand in this layer because they are arithmetic over sources: they know nothing of recipes,
sites or the network. ``flare_async.jobs`` decides where they run.
"""

from __future__ import annotations

from flare_async.transfer.filters.exclude import ExcludeVars
from flare_async.transfer.filters.filter import ArrayFilter, Filter, Passage
from flare_async.transfer.filters.gaussian import GaussianDP
from flare_async.transfer.filters.percentile import PercentilePrivacy
from flare_async.transfer.filters.quantize import ModelDequantizer, ModelQuantizer
from flare_async.transfer.filters.svt import SVTPrivacy

__all__ = [
    "ArrayFilter",
    "ExcludeVars",
    "Filter",
    "GaussianDP",
    "ModelDequantizer",
    "ModelQuantizer",
    "Passage",
    "PercentilePrivacy",
    "SVTPrivacy",
]
