"""Sources that are made when they are read: from anywhere, again, and piece by piece."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flare_async.errors import TensorFormatError, TransferError
from flare_async.transfer.difference import difference
from flare_async.transfer.filters import GaussianDP, ModelDequantizer, ModelQuantizer
from flare_async.transfer.filters.cells import cellwise, gathered, regrouped
from flare_async.transfer.filters.differences import changes
from flare_async.transfer.source import MemorySource, StoredSource
from flare_async.transfer.tensors import TensorSet
from tests.transfer.filters.sources import SIZE, normal, passage, read, source_of


@given(st.lists(st.binary(max_size=40)), st.integers(1, 20))
def test_regrouped_blocks_have_the_same_bytes(parts, nbytes):
    """All but the last have the size that was asked for."""
    blocks = [bytes(block) for block in regrouped(iter(map(memoryview, parts)), nbytes)]
    assert b"".join(blocks) == b"".join(parts)
    assert all(len(block) == nbytes for block in blocks[:-1])
    assert all(0 < len(block) <= nbytes for block in blocks[-1:])


@pytest.mark.parametrize("made", ["float16", "blockwise8", "noise", "back"])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_reader_may_begin_anywhere(made, data):
    """Also in the middle of a value or of a scale."""
    source = MADE[made]
    spec = source.specs[0]
    start = data.draw(st.integers(0, spec.nbytes))
    whole = WHOLE[made]
    assert read(source, spec.name, start) == whole[start:]
    assert source.piece(spec.name, start, 1000) == whole[start : start + 1000]


def test_what_is_made_when_it_is_read_is_fed_in_a_thread():
    """Its arithmetic must not keep the loop."""
    assert isinstance(MADE["noise"], StoredSource)


def test_integers_pass_as_they_are():
    """And tied tensors stay tied."""
    weights = normal(10)
    source = source_of(a=weights, b=weights, n=np.arange(4))
    made = gathered(cellwise(source, lambda _tensor, _cell, values: values * 2))
    np.testing.assert_array_equal(made.numpy()["a"], weights * 2)
    np.testing.assert_array_equal(made.numpy()["n"], np.arange(4))
    assert dict(made.aliases) == {"b": "a"}


def test_a_lazy_difference_is_the_difference():
    """Of all types that have one, to the bit."""
    arrays = {"w": normal(), "h": normal(5, np.float16), "n": np.arange(6)}
    old = TensorSet.from_params(arrays)
    new = TensorSet.from_params({name: array + 1 for name, array in arrays.items()})
    lazy = gathered(changes(MemorySource(new), MemorySource(old)))
    assert lazy.model_digest() == difference(new, old).model_digest()


def test_a_difference_of_unlike_models_is_refused():
    """With the first differences; truth values have none."""
    with pytest.raises(TensorFormatError, match="'b' is missing"):
        changes(source_of(a=np.ones(2)), source_of(b=np.ones(2)))
    truth = source_of(a=np.ones(2, bool))
    with pytest.raises(TensorFormatError, match="truth values"):
        changes(truth, truth)


def test_reading_outside_is_refused():
    """No such tensor, or no such byte."""
    for name, start in (("w", 3 * SIZE * 4), ("w", -1), ("x", 0)):
        with pytest.raises(TransferError):
            MADE["noise"].chunks(name, start)


BASE = source_of(w=normal())
CODED = MemorySource(gathered(ModelQuantizer("blockwise8").apply(BASE, passage())))
MADE = {
    "float16": ModelQuantizer("float16").apply(BASE, passage()),
    "blockwise8": ModelQuantizer("blockwise8").apply(BASE, passage()),
    "noise": GaussianDP(1.0, 1.0).apply(BASE, passage()),
    "back": ModelDequantizer().apply(CODED, passage()),
}
WHOLE = {name: read(source, source.specs[0].name) for name, source in MADE.items()}
