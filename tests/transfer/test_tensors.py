"""Sharing memory where it can be shared, copying where it must be, and saying no by name."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flare_async.errors import MissingExtra, TensorFormatError
from flare_async.transfer.capture import address_of
from flare_async.transfer.dtypes import DTYPES, dtype_of, name_of_numpy, numpy_dtype, torch_dtype
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.tensors import TensorSet

ARRAYS = hnp.arrays(
    st.sampled_from(["f4", ">f4", "f8", "i2", ">i8", "u1", "?", "c8", "f2"]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), ARRAYS, max_size=5))
def test_numpy_arrays_round_trip(arrays):
    """Any byte order, any shape, transposed or not."""
    turned = {name: array.T for name, array in arrays.items()}
    result = TensorSet.from_params(turned).numpy()
    assert list(result) == list(turned)
    for name, array in result.items():
        assert np.array_equal(array, turned[name], equal_nan=array.dtype.kind in "fc")
        assert array.dtype == turned[name].dtype.newbyteorder("=")


def test_contiguous_arrays_are_shared_and_read_only():
    """No copy of a model that is already right."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    result = TensorSet.from_params({"w": array}).numpy()["w"]
    assert address_of(result) == address_of(array)
    with pytest.raises(ValueError, match="read-only"):
        result[0, 0] = 1


def test_views_are_read_only_bytes():
    """Nobody who is handed a view can change the model."""
    view = TensorSet.from_params({"w": np.ones(2)})["w"]
    assert (view.format, view.nbytes, view.readonly) == ("B", 16, True)


TORCH = [torch_dtype(name) for name, entry in DTYPES.items() if entry.torch]


@pytest.mark.parametrize("dtype", TORCH, ids=str)
def test_torch_tensors_round_trip(dtype):
    """Every type that torch has, by way of their bytes."""
    tensor = torch.arange(32, dtype=torch.uint8).reshape(4, 8)
    value = (tensor % 2 if dtype is torch.bool else tensor).view(dtype)
    tensors = TensorSet.from_params({"w": value})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        back = tensors.torch()["w"]
    assert (back.dtype, back.shape) == (dtype, value.shape)
    assert back.data_ptr() == value.data_ptr()
    assert tensors.nbytes == 32


def test_a_parameter_is_detached_and_shared():
    """A state_dict of a live module is not copied."""
    layer = torch.nn.Linear(3, 2)
    tensors = TensorSet.from_params(dict(layer.named_parameters()))
    assert tensors.torch()["weight"].data_ptr() == layer.weight.data_ptr()
    assert not tensors.torch()["weight"].requires_grad


def test_turned_and_conjugated_tensors_are_made_plain():
    """Their bytes in memory are not the bytes of their values."""
    wave = torch.tensor([[1 + 2j, 3j]], dtype=torch.complex64)
    result = TensorSet.from_params({"t": wave.T, "c": wave.conj()}).torch()
    assert torch.equal(result["t"], wave.T)
    assert torch.equal(result["c"], wave.conj().resolve_conj())


def test_tied_tensors_are_found_and_counted_once():
    """Only the same start, shape, type and strides are a tie."""
    weight = torch.randn(4, 4)
    tensors = TensorSet.from_params(
        {"in": weight, "out": weight, "turned": weight.T, "row": weight[0]}
    )
    assert tensors.aliases == {"out": "in"}
    assert tensors.nbytes == 64 + 64 + 16
    made = tensors.torch()
    assert made["out"] is made["in"]
    arrays = tensors.numpy()
    assert arrays["out"] is arrays["in"]


def test_a_tied_name_may_come_before_the_one_that_it_is_tied_to():
    """Transfers sort names; what is received has another order than what was sent."""
    weight = np.ones(3, np.float32)
    sent = TensorSet.from_params({"wte": weight, "head": weight})
    received = TensorSet.from_views(sent.specs[::-1], sent, sent.aliases)
    for made in (received.numpy(), received.torch()):
        assert list(made) == ["head", "wte"]
        assert made["head"] is made["wte"]


def test_empty_tensors_are_never_tied():
    """They all may start at the same address."""
    empty = np.zeros((0, 3))
    assert TensorSet.from_params({"a": empty, "b": empty}).aliases == {}


def test_numpy_scalars_are_tensors_without_dimensions():
    """BatchNorm counters often are."""
    tensors = TensorSet.from_params({"n": np.int64(3)})
    assert tensors.spec("n") == TensorSpec("n", "I64", ())
    assert tensors.numpy()["n"] == 3


REFUSED = {
    "a float": 1.5,
    "a list": [1.0],
    "text": "w",
    "none": None,
    "objects": np.array([None]),
    "a wide float": np.zeros(1, np.longdouble),
    "a wide complex": np.zeros(1, complex),
    "dates": np.zeros(1, "M8[s]"),
    "a record": np.zeros(1, [("x", "f4")]),
    "a mask": np.ma.masked_array([1.0], [True]),
    "a sparse tensor": torch.eye(2).to_sparse(),
    "a tensor without memory": torch.empty(2, device="meta"),
    "a complex double": torch.zeros(1, dtype=torch.complex128),
}


@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
def test_what_cannot_travel_is_refused_by_name(value):
    """The message names the key, so that the user finds it."""
    with pytest.raises(TensorFormatError, match="'bad'"):
        TensorSet.from_params({"good": np.ones(1), "bad": value})


@pytest.mark.parametrize("params", [{1: np.ones(1)}, {"": np.ones(1)}, [np.ones(1)]], ids=str)
def test_names_must_be_text(params):
    """Keys of a dict can be anything."""
    with pytest.raises(TensorFormatError):
        TensorSet.from_params(params)


def test_bfloat16_arrays_travel():
    """NumPy's come from ml_dtypes and look like raw bytes to NumPy itself."""
    array = np.array([1.5, -2], ml_dtypes.bfloat16)
    tensors = TensorSet.from_params({"w": array})
    assert tensors.specs == (TensorSpec("w", "BF16", (2,)),)
    assert tensors.numpy()["w"].tolist() == [1.5, -2]


def test_a_missing_package_is_named(monkeypatch):
    """Asking for an array of a type that needs it says how to install it."""
    monkeypatch.setitem(__import__("sys").modules, "ml_dtypes", None)
    with pytest.raises(MissingExtra, match="ml_dtypes"):
        numpy_dtype("BF16")
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(MissingExtra, match="torch"):
        torch_dtype("F32")


@pytest.mark.parametrize(("convert", "name"), [(numpy_dtype, "F4"), (torch_dtype, "F6_E2M3")])
def test_a_type_that_a_framework_lacks_is_a_typed_error(convert, name):
    """It still travels, as raw bytes."""
    with pytest.raises(TensorFormatError, match=name):
        convert(name)


def test_unknown_types_are_typed_errors():
    """The message lists the known ones."""
    with pytest.raises(TensorFormatError, match="BF16"):
        dtype_of("F31")
    assert name_of_numpy(np.dtype("c16")) is None


def test_memory_that_was_born_read_only_is_copied_for_torch():
    """A write through torch would otherwise change an immutable object."""
    tensors = TensorSet.from_views([TensorSpec("w", "F32", (2,))], {"w": memoryview(bytes(8))})
    tensor = tensors.torch()["w"]
    tensor += 1
    assert bytes(tensors["w"]) == bytes(8)


def test_a_part_of_a_bytearray_is_shared_with_torch():
    """A sink's memory may be one block of many tensors."""
    block = bytearray(16)
    views = {"w": memoryview(block)[8:]}
    tensor = TensorSet.from_views([TensorSpec("w", "F32", (2,))], views).torch()["w"]
    tensor += 1
    assert np.frombuffer(block, np.float32).tolist() == [0, 0, 1, 1]


def test_views_must_have_the_bytes_of_their_spec():
    """Missing, short, and with gaps."""
    spec = TensorSpec("w", "U8", (4,))
    for views in ({}, {"w": memoryview(bytes(3))}, {"w": memoryview(bytes(8))[::2]}):
        with pytest.raises(TensorFormatError, match="'w'"):
            TensorSet.from_views([spec], views)


def test_a_copy_is_private_and_keeps_ties():
    """Its memory belongs to nobody else."""
    array = np.ones(3)
    tensors = TensorSet.from_params({"a": array, "b": array})
    copy = tensors.copy()
    array += 1
    assert copy.numpy()["b"].tolist() == [1, 1, 1]
    assert copy.aliases == {"b": "a"}


def test_the_digest_is_over_name_type_shape_and_bytes():
    """In name order, each with its own length, so that no two models share it by accident."""
    array = np.arange(4, dtype=np.float32)
    base = TensorSet.from_params({"a": array, "b": array.copy()}).model_digest()
    assert TensorSet.from_params({"b": array.copy(), "a": array}).model_digest() == base
    others = [
        {"a": array, "c": array.copy()},
        {"a": array.reshape(2, 2), "b": array.copy()},
        {"a": array.view(np.int32), "b": array.copy()},
        {"a": array + 1, "b": array.copy()},
    ]
    assert len({base, *(TensorSet.from_params(other).model_digest() for other in others)}) == 5
    assert len(base) == len(hashlib.sha256().hexdigest())


def test_same_specs_lists_differences():
    """Names, types and shapes, not values."""
    ours = TensorSet.from_params({"w": np.ones(2)})
    assert ours.same_specs(TensorSet.from_params({"w": np.zeros(2)})) == []
    assert ours.same_specs(TensorSet.from_params({"v": np.zeros(2)})) == [
        "'w' is missing",
        "'v' is unexpected",
    ]


def test_a_set_is_a_mapping_that_describes_itself_shortly():
    """Its repr must not print a model."""
    tensors = TensorSet.from_params({"w": np.ones(2)})
    assert ("w" in tensors, len(tensors), dict(tensors)["w"].nbytes) == (True, 1, 16)
    assert repr(tensors) == "<TensorSet of 1 tensors, 16 bytes>"
    with pytest.raises(TensorFormatError, match="'x'"):
        tensors.spec("x")


def test_views_that_differ_in_value_are_not_tied():
    """One memory, seen as it is, conjugated, negated, and in the other byte order."""
    turned, plain = torch.tensor([1 + 2j, 3 + 4j]), np.arange(4, dtype="<f4")
    given = {"a": turned, "b": turned.conj(), "c": turned.imag, "d": turned.conj().imag}
    tensors = TensorSet.from_params(given)
    assert dict(tensors.aliases) == {}
    assert all(torch.equal(found, given[name]) for name, found in tensors.torch().items())
    orders = {"little": plain, "big": plain.view(">f4"), "again": plain}
    found = TensorSet.from_params(orders)
    assert dict(found.aliases) == {"again": "little"}
    assert all(np.array_equal(array, orders[name]) for name, array in found.numpy().items())


def test_arrays_that_a_mapping_makes_one_after_the_other_are_not_tied():
    """Their memory may be used again as soon as the one before is gone."""

    class Lazy(Mapping):
        def __getitem__(self, name):
            return np.broadcast_to(np.full(1, int(name), np.float32), (100, 100))

        def __iter__(self):
            return iter(map(str, range(50)))

        def __len__(self):
            return 50

    tensors = TensorSet.from_params(Lazy())
    assert dict(tensors.aliases) == {}
    assert [array[0, 0] for array in tensors.numpy().values()] == list(range(50))
