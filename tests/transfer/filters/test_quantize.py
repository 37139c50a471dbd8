"""Quantisation there and back: within its bound, under names that nobody can forge."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from flare_async.errors import ConfigError, TensorFormatError
from flare_async.transfer.filters import ModelDequantizer, ModelQuantizer
from flare_async.transfer.filters.cells import gathered
from flare_async.transfer.filters.codes import PREFIX, Code
from flare_async.transfer.source import MemorySource
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.tensors import TensorSet
from tests.transfer.filters.sources import normal, passage, source_of

KINDS = ("float16", "bfloat16", "blockwise8")
BLOCK = 256
NAMES = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=20)
SHAPES = st.lists(st.integers(0, 9), max_size=4).map(tuple)


def coded(source, kind):
    """Return the quantised tensors."""
    return gathered(ModelQuantizer(kind).apply(source, passage()))


def back(tensors):
    """Return what quantised tensors become."""
    return gathered(ModelDequantizer().apply(MemorySource(tensors), passage()))


def bound(kind, values):
    """Return the largest error of each value."""
    wide = np.abs(values.astype(np.float64))
    if kind == "float16":
        return wide * 2.0**-11 + 2.0**-25
    if kind == "bfloat16":
        return wide * 2.0**-8 + 1e-38
    padded = np.zeros(-(-values.size // BLOCK) * BLOCK)
    padded[: values.size] = wide.reshape(-1)
    scale = padded.reshape(-1, BLOCK).max(axis=1) / 127
    return np.repeat(scale, BLOCK)[: values.size].reshape(values.shape) * (0.5 + 1e-4) + 1e-44


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_value_comes_back_within_the_bound(kind, data):
    """Names, types, shapes and order too."""
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    shape = data.draw(arrays.array_shapes(max_side=20) | st.just((300,)))
    finite = st.floats(-6e4, 6e4, width=32)
    values = data.draw(arrays.arrays(dtype, shape, elements=finite))
    tensors = TensorSet.from_params({"w": values, "n": np.arange(3)})
    found = back(coded(MemorySource(tensors), kind))
    assert found.specs == tensors.specs
    error = np.abs(found.numpy()["w"].astype(np.float64) - values)
    assert (error <= bound(kind, values)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_large_tensors_come_back_within_the_bound(kind):
    """Over several cells, the last of them short."""
    values = normal() * np.exp(normal(seed=2))
    error = np.abs(back(coded(source_of(w=values), kind)).numpy()["w"] - values)
    assert (error <= bound(kind, values)).all()


@pytest.mark.parametrize(("kind", "nbytes"), [("float16", 2000), ("blockwise8", 1016)])
def test_the_bytes_are_those_of_the_values_and_scales(kind, nbytes):
    """1000 values of four bytes."""
    assert coded(source_of(w=normal(1000)), kind).nbytes == nbytes


@pytest.mark.parametrize("kind", KINDS)
def test_tied_tensors_stay_tied(kind):
    """They travel once."""
    weights = normal(1000)
    tensors = coded(source_of(a=weights, b=weights), kind)
    assert len(tensors.aliases) == 1
    assert dict(back(tensors).aliases) == {"b": "a"}


def test_what_would_not_shrink_passes():
    """Integers, floats that are narrow already, and a tensor too small for a scale."""
    source = source_of(n=np.arange(3), h=normal(9, np.float16), w=normal(1))
    assert coded(source, "float16").spec("h").dtype == "F16"
    assert {spec.name for spec in coded(source, "blockwise8").specs} >= {"n", "w"}


def test_beyond_float16_is_its_largest_value():
    """A finite value stays one."""
    found = back(coded(source_of(w=np.array([1e6, -1e6], np.float32)), "float16"))
    np.testing.assert_array_equal(found.numpy()["w"], [65504, -65504])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_stays_so(kind, value):
    """So that a model that diverged is refused where it arrives."""
    values = normal(300)
    values[7] = value
    found = back(coded(source_of(w=values), kind)).numpy()["w"]
    assert not np.isfinite(found[7])


@given(st.sampled_from(KINDS), NAMES, SHAPES, st.sampled_from(["F32", "F64"]))
def test_a_code_is_read_as_it_was_written(kind, name, shape, dtype):
    """Whatever the tensor's name."""
    code = Code(kind, TensorSpec(name, dtype, shape))
    assert Code.read(code.coded) == code


@given(
    st.text(max_size=30).map(lambda text: PREFIX + text)
    | st.lists(st.sampled_from(["float16", "blockwise8", "F32", "2x3", "x", "9", "", "w"])).map(
        lambda parts: PREFIX + "/".join(parts)
    ),
    st.sampled_from(["F16", "U8", "F32"]),
    SHAPES,
)
def test_garbage_is_a_format_error(name, dtype, shape):
    """Or a code that means just that tensor."""
    try:
        code = Code.read(TensorSpec(name, dtype, shape))
    except TensorFormatError:
        return
    assert code.coded == TensorSpec(name, dtype, shape)


def test_twice_quantised_is_refused():
    """The second filter would hide the first from the dequantiser."""
    tensors = coded(source_of(w=normal(1000)), "float16")
    with pytest.raises(TensorFormatError, match="quantised already"):
        coded(MemorySource(tensors), "blockwise8")


def test_two_tensors_with_one_name_are_refused():
    """One as it is and one quantised."""
    tensors = coded(source_of(w=normal(1000)), "float16")
    both = TensorSet.from_params({**tensors.numpy(), "w": normal(1000)})
    with pytest.raises(TensorFormatError, match="2 tensors have 1 names"):
        back(both)


def test_an_unknown_quantisation_is_named():
    """With those that there are."""
    with pytest.raises(ConfigError, match="blockwise8"):
        ModelQuantizer("float4")
