"""Order statistics of values that are read in passes: exact, with half a megabyte of counters.

The absolute values of IEEE floats have the order of their bits. Each pass counts sixteen of them,
from the top, among the values that agree with what is known already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from flare_async.errors import TensorFormatError
from flare_async.transfer.filters.cells import Floats

__all__ = ["abs_percentile"]

STEP: Final = 16
DIGITS: Final = 1 << STEP

Read = Callable[[], Iterator[Floats]]


def abs_percentile(read: Read, percentile: float) -> float:
    """Return that percentile of the absolute values, as NumPy's linear interpolation defines it.

    ``read`` yields all values, anew at every call: a pass for the count, four for each of the two
    neighbours (two where all are float32 or narrower).

    Raises:
        TensorFormatError: a value is not finite.
    """
    count, double = 0, False
    for values in read():
        if not np.isfinite(values).all():
            raise TensorFormatError("a value of the difference is not finite")
        count += values.size
        double = double or values.dtype.itemsize > np.dtype(np.float32).itemsize
    if count == 0:
        return 0.0
    place = percentile / 100 * (count - 1)
    low = int(np.floor(place))
    first = _ranked(read, low, double=double)
    share = place - low
    second = _ranked(read, low + 1, double=double) if share else first
    # Both ways round, so that the ends are met exactly.
    if share < 0.5:
        return first + (second - first) * share
    return second - (second - first) * (1 - share)


def _ranked(read: Read, rank: int, *, double: bool) -> float:
    bits, real = (64, np.float64) if double else (32, np.float32)
    word = np.uint64 if double else np.uint32
    prefix = 0
    for shift in range(bits - STEP, -1, -STEP):
        counts = np.zeros(DIGITS, np.int64)
        for values in read():
            counts += _counted(np.abs(values.astype(real)).view(word), shift, prefix, bits)
        upto = np.cumsum(counts)
        digit = int(np.searchsorted(upto, rank, side="right"))
        rank -= int(upto[digit - 1]) if digit else 0
        prefix = prefix << STEP | digit
    found = float(np.array([prefix], word).view(real)[0])
    if not np.isfinite(found):
        raise TensorFormatError(f"a value is not finite: {found}")
    return found


def _counted(
    words: npt.NDArray[np.unsignedinteger], shift: int, prefix: int, bits: int
) -> npt.NDArray[np.int64]:
    if shift + STEP < bits:
        words = words[(words >> words.dtype.type(shift + STEP)) == prefix]
    digits = (words >> words.dtype.type(shift)) & words.dtype.type(DIGITS - 1)
    return np.bincount(digits.astype(np.int64), minlength=DIGITS).astype(np.int64, copy=False)
