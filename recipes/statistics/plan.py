"""What a site is asked for: the features of all sites, and what they have in common so far.

It travels to sites as JSON in a tensor of bytes; a site reads it as what a peer says.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from flare_async.errors import TensorFormatError
from flare_async.recipes.statistics.values import NUMERIC, DataType, Feature

__all__ = ["Cell", "Common", "Plan", "features_from_bytes", "features_to_bytes"]

COMMON: Final = ("count", "mean", "low", "high")


class Cell(NamedTuple):
    """One feature of one data set."""

    dataset: str
    feature: str


@dataclass(frozen=True, slots=True)
class Common:
    """What all sites together know of a cell: how many values, their mean, a histogram's range."""

    count: float = 0.0
    mean: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Step 1 or 2, the cells in an order that all share, and what is common by then."""

    step: int
    cells: tuple[Cell, ...]
    common: tuple[Common, ...]

    def to_bytes(self) -> np.ndarray:
        """Return the plan as a tensor."""
        document = {
            "step": self.step,
            "cells": [list(cell) for cell in self.cells],
            "common": [[getattr(one, name) for name in COMMON] for one in self.common],
        }
        text = json.dumps(document, ensure_ascii=True, allow_nan=False)
        return np.frombuffer(text.encode(), np.uint8).copy()

    @classmethod
    def from_bytes(cls, data: object) -> Plan:
        """Return the plan in a tensor.

        Raises:
            TensorFormatError: it is none.
        """
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 1:
            raise TensorFormatError("the plan of statistics is no tensor of bytes")
        document = parsed(data.tobytes())
        if not isinstance(document, dict) or set(document) != {"step", "cells", "common"}:
            raise TensorFormatError("the plan of statistics has other fields")
        step, cells, common = document["step"], document["cells"], document["common"]
        if type(step) is not int or step not in {1, 2}:
            raise TensorFormatError(f"the plan of statistics has step {step!r:.20}")
        if not isinstance(cells, list) or not isinstance(common, list):
            raise TensorFormatError("the plan of statistics has no lists")
        if len(cells) != len(common):
            raise TensorFormatError(f"the plan has {len(cells)} cells and {len(common)} values")
        return cls(step, tuple(map(cell_of, cells)), tuple(map(common_of, common)))


def parsed(data: bytes | str) -> object:
    """Return the JSON document in some bytes. Raises TensorFormatError."""
    try:
        document: object = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise TensorFormatError(f"no JSON: {str(exc)[:80]}") from exc
    return document


def cell_of(value: object) -> Cell:
    """Return one cell of a plan. Raises TensorFormatError."""
    if isinstance(value, list) and len(value) == 2 and all(is_text(part) for part in value):
        return Cell(value[0], value[1])
    raise TensorFormatError(f"{value!r:.80} is no data set and feature")


def common_of(value: object) -> Common:
    """Return what is common about one cell. Raises TensorFormatError."""
    if not isinstance(value, list) or len(value) != len(COMMON) or value[0] is None:
        raise TensorFormatError(f"{value!r:.80} is not {', '.join(COMMON)}")
    if not all(one is None or is_number(one) for one in value):
        raise TensorFormatError(f"{value!r:.80} are no finite numbers")
    count, *others = (None if one is None else float(one) for one in value)
    return Common(count or 0.0, *others)


def is_number(value: object) -> bool:
    """Return whether a JSON value is a finite number that fits into 64 bits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 2**1000
    return isinstance(value, float) and math.isfinite(value)


def is_text(value: object) -> bool:
    """Return whether a JSON value is text that can be written again."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def features_to_bytes(features: Mapping[str, Sequence[Feature]], room: int) -> np.ndarray:
    """Return the numeric features of a site as it tells them: a tensor of ``room`` bytes.

    Raises:
        ValueError: there is no room for them.
    """
    document = {
        dataset: [[one.feature_name, int(one.data_type)] for one in found if is_numeric(one)]
        for dataset, found in features.items()
    }
    text = json.dumps(document, ensure_ascii=False).encode()
    if len(text) > room:
        count = sum(map(len, document.values()))
        problem = f"the names of {count} features take {len(text)} bytes, there is room for {room}"
        raise ValueError(f"{problem}: give more max_feature_bytes to the recipe")
    return np.frombuffer(text.ljust(room, b"\0"), np.uint8).copy()


def is_numeric(feature: Feature) -> bool:
    """Return whether statistics can be made of a feature."""
    return feature.data_type in NUMERIC


def features_from_bytes(data: np.ndarray) -> dict[str, list[Feature]]:
    """Return the features that a site tells.

    Raises:
        TensorFormatError: the bytes are not what ``features_to_bytes`` makes.
    """
    text = data.tobytes().rstrip(b"\0")
    try:
        document = parsed(text.decode())
    except UnicodeDecodeError as exc:
        raise TensorFormatError(f"{text!r:.80} are no features: no UTF-8") from exc
    if not isinstance(document, dict) or not all(map(is_text, document)):
        raise TensorFormatError(f"{text!r:.80} are no features")
    return {dataset: listed(found) for dataset, found in document.items()}


def listed(value: object) -> list[Feature]:
    """Return the features of one data set. Raises TensorFormatError."""
    if not isinstance(value, list):
        raise TensorFormatError(f"{value!r:.80} is no list of features")
    found = [feature_of(one) for one in value]
    if len({one.feature_name for one in found}) != len(found):
        raise TensorFormatError("a feature comes twice")
    return found


def feature_of(value: object) -> Feature:
    """Return one feature. Raises TensorFormatError."""
    types = [int(one) for one in NUMERIC]
    if (
        isinstance(value, list)
        and len(value) == 2
        and is_text(value[0])
        and type(value[1]) is int
        and value[1] in types
    ):
        return Feature(value[0], DataType(value[1]))
    raise TensorFormatError(f"{value!r:.80} is no feature")
