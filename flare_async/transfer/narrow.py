"""Element types narrower than float32 that NumPy does not compute with: bfloat16 and eight bits.

They are widened to float32 exactly, and narrowed to the nearest value, ties to even. Eight-bit
types saturate at their largest finite value. No ``ml_dtypes`` is needed for either.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["FLOAT8", "Float8", "narrow_bfloat16", "narrow_float8", "widen_bfloat16", "widen_table"]

Float32s = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Shorts = npt.NDArray[np.uint16]
Words = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Float8:
    """One eight-bit format: exponent and mantissa bits, bias, and how it writes non-numbers.

    ``special`` is ``ieee`` (the top exponent is infinity and NaN), ``fn`` (only all ones is NaN),
    ``fnuz`` (only 0x80 is NaN, there is no minus zero) or ``scale`` (a bare exponent, 0xFF is NaN).
    """

    exponent: int
    mantissa: int
    bias: int
    special: str


FLOAT8: Final = {
    "F8_E5M2": Float8(5, 2, 15, "ieee"),
    "F8_E4M3": Float8(4, 3, 7, "fn"),
    "F8_E8M0": Float8(8, 0, 127, "scale"),
    "F8_E4M3FNUZ": Float8(4, 3, 8, "fnuz"),
    "F8_E5M2FNUZ": Float8(5, 2, 16, "fnuz"),
}


def widen_bfloat16(shorts: Shorts) -> Float32s:
    """Return the exact float32 values of bfloat16 bit patterns."""
    wide: Float32s = (shorts.astype(np.uint32) << 16).view(np.float32)
    return wide


def narrow_bfloat16(values: npt.NDArray[np.floating]) -> Shorts:
    """Return the bit patterns of the nearest bfloat16 values, ties to even; NaN stays NaN."""
    # A double is first rounded to odd, so that rounding twice is rounding once.
    bits = _to_odd_float32(values).view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    quiet = np.where((bits & 0x7FFFFFFF) > 0x7F800000, (bits >> 16) | 0x40, rounded)
    return quiet.astype(np.uint16)


def _to_odd_float32(values: npt.NDArray[np.floating]) -> Float32s:
    if values.dtype == np.float32:
        return values.astype(np.float32, copy=False)
    with np.errstate(over="ignore"):
        near = values.astype(np.float32)
    # Cut towards zero, then set the last bit where anything was lost.
    away = np.abs(near.astype(np.float64)) > np.abs(values)
    bits = near.view(np.uint32) - away.astype(np.uint32)
    inexact = bits.view(np.float32).astype(np.float64) != values
    odd: Words = bits | (inexact & np.isfinite(values)).astype(np.uint32)
    return odd.view(np.float32)


@cache
def widen_table(dtype: str) -> Float32s:
    """Return the float32 value of each of the 256 patterns."""
    form = FLOAT8[dtype]
    values = [_value(form, pattern) for pattern in range(256)]
    table = np.array(values, dtype=np.float32)
    table.setflags(write=False)
    return table


def _value(form: Float8, pattern: int) -> float:
    if form.special == "scale":
        return float("nan") if pattern == 0xFF else 2.0 ** (pattern - form.bias)
    if form.special == "fnuz" and pattern == 0x80:
        return float("nan")
    sign = -1.0 if pattern & 0x80 else 1.0
    top = (1 << form.exponent) - 1
    exponent = (pattern >> form.mantissa) & top
    fraction = pattern & ((1 << form.mantissa) - 1)
    if form.special == "fn" and pattern & 0x7F == 0x7F:
        return float("nan")
    if form.special == "ieee" and exponent == top:
        return float("nan") if fraction else sign * float("inf")
    if exponent == 0:
        return sign * fraction * 2.0 ** (1 - form.bias - form.mantissa)
    return sign * (1 + fraction / (1 << form.mantissa)) * 2.0 ** (exponent - form.bias)


@cache
def _rounding(dtype: str) -> tuple[npt.NDArray[np.float64], Bytes]:
    """Return the finite magnitudes in rising order and their patterns."""
    table = widen_table(dtype).astype(np.float64)
    signless = np.arange(256 if dtype == "F8_E8M0" else 128)
    finite = signless[np.isfinite(table[signless])]
    order = np.argsort(table[finite], kind="stable")
    return table[finite][order], finite[order].astype(np.uint8)


def narrow_float8(values: npt.NDArray[np.floating], dtype: str) -> Bytes:
    """Return the patterns of the nearest finite values, ties to even; NaN stays NaN."""
    magnitudes, patterns = _rounding(dtype)
    size = np.abs(values.astype(np.float64))
    above = np.clip(np.searchsorted(magnitudes, size), 1, len(magnitudes) - 1)
    low, high = magnitudes[above - 1], magnitudes[above]
    tie_up = (size - low == high - size) & (patterns[above - 1] & 1 == 1)
    result = np.where((size - low > high - size) | tie_up, patterns[above], patterns[above - 1])
    if dtype == "F8_E8M0":
        return np.where(np.isnan(values), 0xFF, result).astype(np.uint8)
    negative = np.signbit(values)
    if dtype.endswith("FNUZ"):
        negative &= result != 0
    signed = np.where(negative, result | 0x80, result)
    nan = 0x80 if dtype.endswith("FNUZ") else 0x7F
    return np.where(np.isnan(values), nan, signed).astype(np.uint8)
