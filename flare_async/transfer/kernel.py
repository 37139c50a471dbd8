"""The one summation kernel: chunk by chunk ``multiply(x, w, out=scratch); add(acc, scratch)``.

Every sum of the runtime goes through it, so that its bits depend on the values, the weights and
their order, and never on the framework, the transport, the worker or the size of a chunk.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from flare_async.errors import ConfigError, TensorFormatError
from flare_async.hot_value import hot_value
from flare_async.limits import MIB
from flare_async.transfer.dtypes import dtype_of
from flare_async.transfer.narrow import (
    FLOAT8,
    narrow_bfloat16,
    narrow_float8,
    widen_bfloat16,
    widen_table,
)
from flare_async.transfer.spec import TensorSpec

__all__ = [
    "CHUNK",
    "Accumulator",
    "Addend",
    "Precision",
    "accumulate",
    "accumulator_dtype",
    "is_always_finite",
    "is_summable",
    "largest",
    "narrow",
    "new_scratch",
    "not_finite",
    "values_nbytes",
    "weigh",
    "widen",
]

CHUNK: Final = MIB
SMALL_MODEL: Final = 64_000_000  # bytes of model below which sums are float64
Accumulator = npt.NDArray[np.floating]
Precision = Literal["float32", "float64"]
_SCRATCH: Final = MIB

# What is viewed as what before it is multiplied; complex numbers are pairs of floats.
_PLAIN: Final = {
    "BOOL": "u1",
    "U8": "<u1",
    "I8": "<i1",
    "I16": "<i2",
    "U16": "<u2",
    "F16": "<f2",
    "I32": "<i4",
    "U32": "<u4",
    "F32": "<f4",
    "C64": "<f4",
    "F64": "<f8",
    "I64": "<i8",
    "U64": "<u8",
}
# Types whose every value float32 holds; all others are summed in float64 whatever was asked for.
_FITS_FLOAT32: Final = frozenset(
    {"BOOL", "U8", "I8", "I16", "U16", "F16", "BF16", "F32", "C64", *FLOAT8}
)


@hot_value(frozen=True, slots=True)
class Addend:
    """One chunk of one update's tensor, to be added with a weight."""

    dtype: str
    chunk: memoryview
    weight: float


@lru_cache(maxsize=64)  # asked for each chunk
def values_nbytes(dtype: str) -> int:
    """Return the bytes of one value as it is summed; a complex number is two of them."""
    return 4 if dtype == "C64" else dtype_of(dtype).bits // 8


def is_summable(dtype: str) -> bool:
    """Return whether values of that type can be averaged at all."""
    return dtype in _PLAIN or dtype == "BF16" or dtype in FLOAT8


def accumulator_dtype(
    spec: TensorSpec, model_nbytes: int, override: str | None = None
) -> Precision:
    """Return the accumulator's type: a function of the model and the options, nothing else.

    float64 below 64 MB of model and float32 above, or what ``override`` says; never less than the
    tensor's own type needs.

    Raises:
        ConfigError: the override is neither float32 nor float64.
    """
    if override not in {None, "float32", "float64"}:
        raise ConfigError("accumulator", override, "float32 or float64 is needed")
    wanted = override or ("float64" if model_nbytes < SMALL_MODEL else "float32")
    return "float32" if wanted == "float32" and spec.dtype in _FITS_FLOAT32 else "float64"


def widen(dtype: str, chunk: memoryview) -> npt.NDArray[np.number]:
    """Return a chunk's values in a type that NumPy computes with, shared where it can be.

    Raises:
        TensorFormatError: values of that type cannot be summed.
    """
    if dtype == "BF16":
        return widen_bfloat16(np.frombuffer(chunk, "<u2"))
    if dtype in FLOAT8:
        return widen_table(dtype)[np.frombuffer(chunk, np.uint8)]
    if dtype not in _PLAIN:
        raise TensorFormatError(f"dtype {dtype}: values of this type cannot be summed")
    values: npt.NDArray[np.number] = np.frombuffer(chunk, _PLAIN[dtype])
    return values


def new_scratch(precision: Precision) -> Accumulator:
    """Return scratch memory for ``accumulate``: the block that stays in the cache."""
    return np.empty(_SCRATCH // np.dtype(precision).itemsize, precision)


def accumulate(acc: Accumulator, addend: Addend, scratch: Accumulator) -> None:
    """Add the weighted values of a chunk to its part of the accumulator, in place.

    Values are widened to the accumulator's type before they are multiplied. The bits do not
    depend on the length of ``scratch``.
    """
    step = scratch.size
    width = values_nbytes(addend.dtype)
    for at in range(0, acc.size, step):
        part = acc[at : at + step]
        values = widen(addend.dtype, addend.chunk[at * width : (at + part.size) * width])
        if addend.weight == 1:  # the product is the value: the same bits in half of the time
            np.add(part, values, out=part, dtype=acc.dtype, casting="same_kind")
            continue
        product = scratch[: part.size]
        np.multiply(values, addend.weight, out=product, dtype=acc.dtype, casting="same_kind")
        np.add(part, product, out=part)


def weigh(values: Accumulator, weight: float) -> Iterator[None]:
    """Make values what ``accumulate`` makes of zeros and them, in place; yields every MiB."""
    step = CHUNK // values.itemsize
    for at in range(0, values.size, step):
        part = values[at : at + step]
        np.multiply(part, weight, out=part)
        np.add(part, 0.0, out=part)  # zero plus minus zero is zero
        yield


def narrow(dtype: str, values: Accumulator) -> npt.NDArray[np.generic]:
    """Return the accumulator's values in the tensor's type.

    Integers are rounded to the nearest (ties to even) and clipped, truth is 0.5 and above.

    Raises:
        TensorFormatError: values of that type cannot be summed.
    """
    if dtype == "BF16":
        return narrow_bfloat16(values)
    if dtype in FLOAT8:
        return narrow_float8(values, dtype)
    if dtype == "BOOL":
        return (values >= 0.5).view(np.uint8)
    if dtype not in _PLAIN:
        raise TensorFormatError(f"dtype {dtype}: values of this type cannot be summed")
    target = np.dtype(_PLAIN[dtype])
    if target.kind == "f":
        with np.errstate(over="ignore"):
            return values.astype(target, copy=False)
    return _to_integers(values, target)


def _to_integers(values: Accumulator, target: np.dtype[np.generic]) -> npt.NDArray[np.generic]:
    bounds = np.iinfo(target.str)
    rounded = np.rint(values.astype(np.float64, copy=False))
    # The largest double that is not above the type's maximum: 2**63 itself would wrap.
    high = float(bounds.max)
    if int(high) > bounds.max:
        high = float(np.nextafter(high, 0.0))
    return np.clip(rounded, float(bounds.min), high).astype(target)


def is_always_finite(dtype: str) -> bool:
    """Return whether every pattern of that type is a finite value."""
    return dtype not in {"BOOL", "BF16", "F16", "F32", "C64", "F64", *FLOAT8}


def largest(dtype: str, chunk: memoryview) -> float:
    """Return the largest absolute value of a chunk; what is not finite, or no truth value, is NaN.

    Raises:
        TensorFormatError: values of that type cannot be summed.
    """
    if dtype in {"BF16", "F16"}:  # without their signs, patterns are in the order of the values
        top = (np.frombuffer(chunk, "<u2") & 0x7FFF).max(initial=0)
        found = float(widen(dtype, np.array([top], "<u2").view(np.uint8).data)[0])
    else:
        values = present(dtype, chunk) if dtype in FLOAT8 else widen(dtype, chunk)
        low = np.minimum.reduce(values, initial=0).item()
        high = np.maximum.reduce(values, initial=0).item()
        found = float(high if high != high or high >= -low else -low)
    wrong = not math.isfinite(found) or (dtype == "BOOL" and found > 1)
    return math.nan if wrong else found


def present(dtype: str, chunk: memoryview) -> npt.NDArray[np.float32]:
    """Return the values of an eight-bit type that a chunk has, once each."""
    seen = np.zeros(256, np.bool_)
    seen[np.frombuffer(chunk, np.uint8)] = True
    return widen_table(dtype)[seen]


def not_finite(dtype: str, chunk: memoryview) -> bool:
    """Return whether a chunk has a value that is infinite, no number, or no truth value."""
    if dtype == "BOOL":
        return bool((np.frombuffer(chunk, np.uint8) > 1).any())
    if dtype == "BF16":
        return bool(((np.frombuffer(chunk, "<u2") & 0x7F80) == 0x7F80).any())
    if dtype in FLOAT8:
        finite = np.isfinite(widen_table(dtype))
        return not bool(finite[np.frombuffer(chunk, np.uint8)].all())
    if is_always_finite(dtype):
        return False
    return not bool(np.isfinite(np.frombuffer(chunk, _PLAIN[dtype])).all())
