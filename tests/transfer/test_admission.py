"""What is refused before it touches a sum, and how it is said."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from flare_async.errors import UpdateRefused
from flare_async.transfer.admission import Admission
from flare_async.transfer.source import MemorySource
from flare_async.transfer.tensors import TensorSet
from tests.transfer.helpers import params

MODEL = params(w=np.ones((2, 3), np.float32), n=np.int64(1))


def test_a_good_update_passes():
    """As a set and as a source."""
    admission = Admission(MODEL.specs)
    admission.check("site-1", MODEL, 1)
    admission.check("site-1", MemorySource(MODEL), 2.0**53)


@pytest.mark.parametrize(
    ("update", "text"),
    [
        (params(w=np.ones((2, 3), np.float32)), "'n' is missing"),
        (params(w=np.ones((2, 3)), n=np.int64(1)), r"'w' is F64\[2, 3\], not F32\[2, 3\]"),
        (params(w=np.ones((3, 2), np.float32), n=np.int64(1)), r"'w' is F32\[3, 2\]"),
        (params(w=np.ones((2, 3), np.float32), n=np.int64(1), x=np.ones(1)), "'x' is unexpected"),
    ],
)
def test_a_difference_is_named(update, text):
    """With the site."""
    with pytest.raises(UpdateRefused, match=f"^site-1: .*{text}"):
        Admission(MODEL.specs).check("site-1", update, 1)


def test_five_differences_are_enough():
    """A message is a line."""
    update = TensorSet.from_params({f"x{at}": np.ones(1) for at in range(20)})
    with pytest.raises(UpdateRefused) as caught:
        Admission(MODEL.specs).check("site-1", update, 1)
    assert caught.value.problem.count(" is ") == 5


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_a_value_that_is_not_finite_is_refused(value, dtype):
    """The message gives the tensor and the chunk."""
    values = np.zeros(3 * 2**20 // np.dtype(dtype).itemsize, dtype)
    values[-1] = value
    update = params(w=values)
    with pytest.raises(UpdateRefused, match=r"'w': .*bytes 2097152 to 3145728 is not finite"):
        Admission(update.specs).check("site-1", update, 1)


@pytest.mark.parametrize("weight", [0.0, -1, np.nan, np.inf, 2**53 + 1, True, "1", None])
def test_a_weight_is_a_number_above_zero(weight):
    """And not so large that it swallows the others."""
    with pytest.raises(UpdateRefused, match="weight"):
        Admission(MODEL.specs).check("site-1", MODEL, weight)


def test_a_part_is_admitted_only_where_that_is_allowed():
    """Or where the missing names are ignored anyway."""
    part = params(n=np.int64(1))
    Admission(MODEL.specs, allow_missing=True).check("site-1", part, 1)
    Admission(MODEL.specs, ignored=frozenset({"w"})).check("site-1", part, 1)
    with pytest.raises(UpdateRefused, match="'w' is missing"):
        Admission(MODEL.specs).check("site-1", part, 1)


def test_tied_tensors_must_stay_equal():
    """Summing one of two different values would drop the other silently."""
    shared = np.ones(3)
    tied = TensorSet.from_params({"a": shared, "b": shared})
    admission = Admission(tied.specs, aliases=tied.aliases)
    admission.check("site-1", tied, 1)
    admission.check("site-1", TensorSet.from_params({"b": shared, "a": shared}), 1)
    admission.check("site-1", params(a=np.ones(3), b=np.ones(3)), 1)
    with pytest.raises(UpdateRefused, match="tensor 'b': has other bytes than 'a'"):
        admission.check("site-1", params(a=np.ones(3), b=np.zeros(3)), 1)


def test_a_part_without_both_ties_is_not_compared():
    """There is nothing to compare with."""
    shared = np.ones(3)
    tied = TensorSet.from_params({"a": shared, "b": shared})
    part = params(b=np.zeros(3))
    Admission(tied.specs, aliases=tied.aliases, allow_missing=True).check("site-1", part, 1)
