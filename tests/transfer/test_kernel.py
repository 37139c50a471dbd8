"""Widening, adding and narrowing: exact, rounded once, whatever the size of a chunk."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flare_async.errors import ConfigError, TensorFormatError
from flare_async.transfer.dtypes import DTYPES, numpy_dtype
from flare_async.transfer.kernel import (
    Addend,
    accumulate,
    accumulator_dtype,
    is_always_finite,
    is_summable,
    narrow,
    new_scratch,
    not_finite,
    widen,
)
from flare_async.transfer.narrow import FLOAT8, narrow_bfloat16, narrow_float8, widen_table
from flare_async.transfer.spec import TensorSpec

DOUBLES = hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(width=64))


def exact(values):
    """Return bits, with every NaN the same."""
    return np.where(np.isnan(values), np.nan, values).tobytes()


@pytest.mark.parametrize("dtype", FLOAT8)
def test_every_eight_bit_pattern_widens_as_ml_dtypes_does(dtype):
    """The table is our own, so that averaging needs no extra package."""
    patterns = np.arange(256, dtype=np.uint8)
    expected = patterns.view(numpy_dtype(dtype)).astype(np.float32)
    assert exact(widen_table(dtype)) == exact(expected)


@pytest.mark.parametrize("dtype", FLOAT8)
def test_every_finite_eight_bit_pattern_survives_the_round_trip(dtype):
    """Narrowing is the inverse of widening."""
    patterns = np.arange(256, dtype=np.uint8)
    kept = patterns[np.isfinite(widen_table(dtype))]
    assert narrow_float8(widen_table(dtype)[kept], dtype).tolist() == kept.tolist()


@pytest.mark.parametrize("dtype", [name for name in FLOAT8 if name != "F8_E8M0"])
def test_eight_bit_types_round_to_the_nearest_even(dtype):
    """Midpoints and their neighbours on both sides, against ml_dtypes."""
    finite = np.unique(widen_table(dtype)[np.isfinite(widen_table(dtype))]).astype(np.float32)
    middle = (finite[1:] + finite[:-1]) / 2
    values = np.concatenate([middle, np.nextafter(middle, -9e9), np.nextafter(middle, 9e9)])
    expected = values.astype(numpy_dtype(dtype)).view(np.uint8)
    ours = narrow_float8(values, dtype)
    assert exact(widen_table(dtype)[ours]) == exact(widen_table(dtype)[expected])


@pytest.mark.parametrize("dtype", FLOAT8)
def test_eight_bit_types_saturate_and_keep_nan(dtype):
    """A mean beyond the range becomes the largest value, not infinity."""
    largest = widen_table(dtype)[np.isfinite(widen_table(dtype))].max()
    seen = widen_table(dtype)[narrow_float8(np.array([1e39, np.nan]), dtype)]
    assert seen[0] == largest
    assert np.isnan(seen[1])


@given(DOUBLES)
def test_bfloat16_is_rounded_once_from_a_double(values):
    """Rounding to float32 first would round some ties twice."""
    with np.errstate(all="ignore"):
        near = values.astype(np.float32)
    single = narrow_bfloat16(near)
    assert exact(bfloat(single)) == exact(near.astype(ml_dtypes.bfloat16).astype(np.float32))
    with np.errstate(all="ignore"):
        error = np.abs(bfloat(narrow_bfloat16(values)).astype(np.float64) - values)
        other = np.abs(bfloat(single).astype(np.float64) - values)
    finite = np.isfinite(error) & np.isfinite(other)
    assert (error[finite] <= other[finite]).all()


def bfloat(patterns):
    """Return the values of bfloat16 patterns."""
    return patterns.view(ml_dtypes.bfloat16).astype(np.float32)


def test_a_double_just_above_a_tie_is_rounded_up():
    """1 + 2**-8 is a tie in bfloat16; 2**-40 more is not, but float32 cannot see it."""
    values = np.array([1 + 2.0**-8, 1 + 2.0**-8 + 2.0**-40, -1 - 2.0**-8 - 2.0**-40])
    assert bfloat(narrow_bfloat16(values)).tolist() == [1.0, 1.0078125, -1.0078125]


@given(
    hnp.arrays(np.float32, 50, elements=st.floats(-1e6, 1e6, width=32)),
    st.integers(1, 60),
    st.floats(0.5, 1e6),
)
def test_bits_do_not_depend_on_the_size_of_the_block(values, block, weight):
    """Only the values, the weight and the order count."""
    results = []
    for size in (block, 1000):
        acc = np.linspace(-3, 3, values.size).astype(np.float32)
        accumulate(acc, Addend("F32", values.data.cast("B"), weight), np.empty(size, np.float32))
        results.append(acc.tobytes())
    plain = np.linspace(-3, 3, values.size).astype(np.float32)
    plain += values * np.float32(weight)
    assert results == [plain.tobytes()] * 2


def test_values_are_widened_before_they_are_multiplied():
    """A float32 product added to a float64 sum would be no better than float32."""
    values = np.array([0.1], np.float32)
    acc = np.zeros(1)
    accumulate(acc, Addend("F32", values.data.cast("B"), 3.0), new_scratch("float64"))
    assert acc[0] == np.float64(values[0]) * 3.0


@pytest.mark.parametrize("dtype", ["I8", "U8", "I32", "U32", "I64", "U64"])
def test_integers_are_rounded_and_clipped(dtype):
    """The largest 64-bit values are no doubles: the conversion must not wrap."""
    bounds = np.iinfo(numpy_dtype(dtype))
    values = np.array([0.4, 0.6, 2.5, -1e30, 1e30, float(bounds.max)])
    result = narrow(dtype, values)
    assert result[:3].tolist() == [0, 1, 2]
    assert result[3] == bounds.min
    assert abs(int(result[4]) - bounds.max) <= bounds.max // 2**53
    assert result[4] == result[5]


@pytest.mark.parametrize("dtype", ["F16", "F32", "F64", "C64", "BF16", *FLOAT8])
def test_values_that_are_not_finite_are_found(dtype):
    """In the last element of a chunk."""
    one = np.ones(2, numpy_dtype(dtype))
    assert not not_finite(dtype, memoryview(one.tobytes()))
    bad = one.copy()
    bad[1] = np.nan
    assert not_finite(dtype, memoryview(bad.tobytes()))
    assert not is_always_finite(dtype)


def test_infinity_is_not_finite():
    """Both signs."""
    for value in (np.inf, -np.inf):
        for dtype in ("F16", "F32", "F64", "BF16", "F8_E5M2"):
            assert not_finite(dtype, memoryview(np.array([value], numpy_dtype(dtype)).tobytes()))


def test_a_truth_value_is_zero_or_one():
    """Any other byte would be undefined in NumPy."""
    assert not not_finite("BOOL", memoryview(b"\0\1"))
    assert not_finite("BOOL", memoryview(b"\0\2"))


def test_integers_are_always_finite():
    """Their chunks need not be read."""
    assert is_always_finite("I64")
    assert not not_finite("I64", memoryview(b"\xff" * 8))


def test_the_accumulator_is_a_function_of_the_model():
    """64 MB is the boundary; types that float32 cannot hold stay in float64."""
    spec = TensorSpec("w", "F32", (2,))
    assert accumulator_dtype(spec, 63_999_999) == "float64"
    assert accumulator_dtype(spec, 64_000_000) == "float32"
    assert accumulator_dtype(spec, 64_000_000, "float64") == "float64"
    assert accumulator_dtype(spec, 8, "float32") == "float32"
    assert accumulator_dtype(TensorSpec("n", "I64", ()), 1 << 30, "float32") == "float64"
    with pytest.raises(ConfigError, match="accumulator"):
        accumulator_dtype(spec, 8, "float16")


@pytest.mark.parametrize("dtype", ["F4", "F6_E2M3", "F6_E3M2"])
def test_packed_types_cannot_be_summed(dtype):
    """They have no element of whole bytes."""
    assert not is_summable(dtype)
    with pytest.raises(TensorFormatError, match=dtype):
        widen(dtype, memoryview(b""))
    with pytest.raises(TensorFormatError, match=dtype):
        narrow(dtype, np.zeros(1))


def test_all_other_types_can():
    """Nothing is left out by accident."""
    assert {name for name in DTYPES if not is_summable(name)} == {"F4", "F6_E2M3", "F6_E3M2"}
