"""Lists of arrays by the names of layers: how they travel, and what comes back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async.errors import TensorFormatError
from flare_async.transfer.layers import flattened, grouped
from flare_async.transfer.tensors import TensorSet

WORDS = st.text("ab/_09", max_size=5)
LAYERS = st.dictionaries(
    st.text("ab_", min_size=1, max_size=4), st.lists(st.integers(), max_size=12)
)


class Foreign:
    """An array of another library, known by its method."""

    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        """Return NumPy's view of it."""
        return self._array


class Unreadable:
    """An array on a device that NumPy cannot read."""

    def __array__(self, dtype=None, copy=None):
        """Refuse."""
        raise TypeError("it is on device 3\nand more")


@given(LAYERS)
def test_lists_come_back_as_they_were_sent(layers):
    """Those without arrays are left out, and read as empty lists."""
    found = grouped(flattened(layers))
    assert found == {name: arrays for name, arrays in layers.items() if arrays}
    assert [found[name] for name in layers] == list(layers.values())


@given(st.dictionaries(WORDS, st.integers()))
def test_no_array_is_lost_whatever_its_name(params):
    """A name that only looks like one of a layer's arrays stays what it is."""
    assert flattened(grouped(params)) == params


def test_arrays_are_in_the_order_of_their_numbers():
    """Models travel in an order of their own."""
    names = [f"dense/{at}" for at in (10, 2, 0, 1, 3, 4, 5, 6, 7, 8, 9)]
    assert grouped({name: name for name in names}) == {"dense": [f"dense/{at}" for at in range(11)]}


@pytest.mark.parametrize("names", [["dense/1"], ["dense/00"], ["dense/x"], ["dense/0", "dense"]])
def test_arrays_that_are_no_list_keep_their_names(names):
    """Numbers count from 0, and a layer's name is free."""
    params = dict.fromkeys(names, 1)
    assert grouped(params) == params


def test_an_array_of_another_library_travels_without_a_copy():
    """It says itself where NumPy finds its bytes."""
    own = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensors = TensorSet.from_params({"w": Foreign(own), "tied": Foreign(own)})
    assert np.shares_memory(np.frombuffer(tensors["w"], np.uint8), own)
    assert dict(tensors.aliases) == {"tied": "w"}


def test_an_array_that_numpy_cannot_read_is_named():
    """With the first line of the reason, and the class that it has."""
    with pytest.raises(TensorFormatError, match=r"'w': .*Unreadable: it is on device 3$"):
        TensorSet.from_params({"w": Unreadable()})
