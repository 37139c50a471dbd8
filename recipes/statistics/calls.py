"""Calls of a user's generator: what it returns is checked, and an error names the line."""

from __future__ import annotations

import inspect
import math
import operator
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import SupportsFloat, SupportsIndex, TypeVar

import numpy as np

from flare_async.recipes.statistics.configs import Bins
from flare_async.recipes.statistics.digest import Digest
from flare_async.recipes.statistics.generator import Statistics
from flare_async.recipes.statistics.plan import Cell, is_text
from flare_async.recipes.statistics.values import BinRange, DataType, Feature
from flare_async.roles.text import described

__all__ = ["Calls"]

ResultT = TypeVar("ResultT")
CLOSE = 1e-6  # of a bin's width: how far its ends may be from where they belong


class Calls:
    """Calls the methods of one generator.

    Raises (all methods):
        RuntimeError: the method raised; the message has the file and line.
        TypeError: it returned another type than it should; the message says where it is defined.
    """

    def __init__(self, generator: Statistics) -> None:
        self._generator = generator

    def run(self, method: str, *args: object) -> None:
        """Call a method that returns nothing of use."""
        self._call(method, args)

    def features(self) -> dict[str, list[Feature]]:
        """Return the features of each data set."""
        found = self._call("features", ())
        if not isinstance(found, Mapping) or not all(is_text(name) for name in found):
            raise self._wrong("features", found, "a dict of features by data set")
        return {dataset: self._features(listed) for dataset, listed in found.items()}

    def _features(self, found: object) -> list[Feature]:
        if not isinstance(found, Sequence) or isinstance(found, str):
            raise self._wrong("features", found, "a list of Feature for each data set")
        for one in found:
            if not isinstance(one, Feature) or not is_text(one.feature_name):
                raise self._wrong("features", one, "a Feature with a name of text")
            if not isinstance(one.data_type, DataType):
                raise self._wrong("features", one.data_type, "a DataType for each Feature")
        names = [one.feature_name for one in found]
        if len(set(names)) != len(names):
            raise self._wrong("features", names, "features that differ in their names")
        return list(found)

    def count(self, method: str, cell: Cell) -> int:
        """Return a number of rows."""
        found = self._call(method, cell)
        if not isinstance(found, SupportsIndex) or isinstance(found, bool):
            raise self._wrong(method, found, "an integer")
        if (count := operator.index(found)) < 0:
            raise self._wrong(method, found, "an integer of at least 0")
        return count

    def number(self, method: str, cell: Cell, *args: float) -> float | None:
        """Return a number; None where there is none."""
        found = self._call(method, (*cell, *args))
        if found is None:
            return None
        if isinstance(found, str | bytes) or not isinstance(found, SupportsFloat):
            raise self._wrong(method, found, "a number or None")
        number = self._guarded(method, lambda: float(found))
        if math.isinf(number):
            raise self._wrong(method, number, "a finite number or None")
        return None if math.isnan(number) else number

    def histogram(self, cell: Cell, bins: Bins, ends: BinRange) -> tuple[int, ...]:
        """Return the counts of bins that divide the range into equal parts."""
        found = self._call("histogram", (*cell, bins.count, *ends))
        rows = getattr(found, "bins", None)
        if not isinstance(rows, Sequence):
            raise self._wrong("histogram", found, "a Histogram with a list of bins")
        edges = np.linspace(ends.min_value, ends.max_value, bins.count + 1)
        if len(rows) != bins.count:
            raise self._wrong("histogram", f"{len(rows)} bins", f"{bins.count} bins")
        far = CLOSE * (edges[1] - edges[0]) if bins.count else 0.0
        for at, row in enumerate(rows):
            if not self._fits(row, edges[at : at + 2], far):
                what = f"bin {at} from {edges[at]:g} to {edges[at + 1]:g} with its count"
                raise self._wrong("histogram", row, what)
        return tuple(operator.index(row[2]) for row in rows)

    @staticmethod
    def _fits(row: object, edges: np.ndarray, far: float) -> bool:
        if not isinstance(row, tuple) or len(row) != 3 or not isinstance(row[2], SupportsIndex):
            return False
        low, high, count = row
        if not isinstance(low, SupportsFloat) or not isinstance(high, SupportsFloat):
            return False
        away = max(abs(float(low) - edges[0]), abs(float(high) - edges[1]))
        return bool(away <= far) and operator.index(count) >= 0

    def digest(self, cell: Cell, percents: Sequence[float]) -> Digest:
        """Return the digest of a cell's values."""
        found = self._call("quantiles", (*cell, list(percents)))
        if not isinstance(found, Digest):
            raise self._wrong("quantiles", found, "a Digest")
        return found

    def _call(self, method: str, args: Sequence[object]) -> object:
        return self._guarded(method, lambda: getattr(self._generator, method)(*args))

    def _guarded(self, method: str, call: Callable[[], ResultT]) -> ResultT:
        try:
            return call()
        except Exception as error:
            place = self._line_of(error)
            raise RuntimeError(f"{place} in {self._name(method)}: {described(error)}") from error

    def _wrong(self, method: str, found: object, needed: str) -> TypeError:
        kind = type(found).__name__
        shown = f"{found!r:.60}"
        text = f"{self._name(method)} returned {kind} {shown}, {needed} is needed"
        return TypeError(f"{self._definition(method)}: {text}")

    def _name(self, method: str) -> str:
        return f"{type(self._generator).__name__}.{method}"

    def _line_of(self, error: BaseException) -> str:
        """Return the last line of the user's own file; of any other, where that has none."""
        walked = traceback.walk_tb(error.__traceback__)
        frames = [(one.f_code.co_filename, line) for one, line in walked]
        own = inspect.getfile(type(self._generator)) if is_findable(self._generator) else ""
        file, line = next((at for at in reversed(frames) if at[0] == own), frames[-1])
        return f"{PurePath(file).name}:{line}"

    def _definition(self, method: str) -> str:
        code = getattr(getattr(type(self._generator), method, None), "__code__", None)
        if code is None:
            return type(self._generator).__name__
        return f"{PurePath(code.co_filename).name}:{code.co_firstlineno}"


def is_findable(generator: Statistics) -> bool:
    """Return whether the generator's class knows its file."""
    try:
        inspect.getfile(type(generator))
    except (OSError, TypeError):
        return False
    return True
