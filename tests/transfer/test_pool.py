"""Private writable copies, from memory that a slot reuses."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch

from flare_async.transfer.capture import address_of
from flare_async.transfer.pool import SlotPool
from flare_async.transfer.tensors import TensorSet
from tests.transfer.helpers import params


def test_a_copy_is_writable_and_private():
    """User code may do what it likes with it."""
    model = params(w=np.ones(3))
    taken = SlotPool().take(model, "numpy")
    taken["w"] += 1
    assert model.numpy()["w"].tolist() == [1, 1, 1]


def test_the_same_layout_reuses_the_memory():
    """Memory is slots times model, not sites times model."""
    pool = SlotPool()
    first = pool.take(params(w=np.ones(3)), "numpy")["w"]
    second = pool.take(params(w=np.full(3, 7.0)), "numpy")["w"]
    assert address_of(first) == address_of(second)
    assert second.tolist() == [7, 7, 7]


def test_another_layout_takes_new_memory():
    """Whoever holds the old copy keeps it."""
    pool = SlotPool()
    first = pool.take(params(w=np.ones(3)), "numpy")["w"]
    pool.take(params(w=np.ones(4)), "numpy")
    assert first.tolist() == [1, 1, 1]
    assert not pool.owns(first)


@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_ties_stay_ties(framework):
    """Training a tied weight must change both names."""
    shared = np.ones(3, np.float32)
    taken = SlotPool().take(TensorSet.from_params({"a": shared, "b": shared}), framework)
    taken["a"] += 1
    assert taken["b"].tolist() == [2, 2, 2]


@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_a_tied_name_may_come_before_the_one_that_it_is_tied_to(framework):
    """Offers are sorted by name: "head", tied to "wte", arrives first."""
    shared = np.ones(3, np.float32)
    sent = TensorSet.from_params({"wte": shared, "head": shared})
    received = TensorSet.from_views(sent.specs[::-1], sent, sent.aliases)
    taken = SlotPool().take(received, framework)
    taken["wte"] += 1
    assert list(taken) == ["head", "wte"]
    assert taken["head"].tolist() == [2, 2, 2]


def test_owned_memory_is_recognised_in_any_disguise():
    """An update that aliases the slot must be copied before it leaves."""
    pool = SlotPool()
    model = params(w=np.ones((3, 4), np.float32), e=np.zeros((0, 2)))
    array = pool.take(model, "numpy")["w"]
    tensor = pool.take(model, "torch")["w"]
    owned = [array, array.T, array[::-1, ::-2], array[1:2], array.view(np.int8)]
    owned += [tensor, tensor.T, tensor.view(-1)[3:], torch.nn.Parameter(tensor), tensor.detach()]
    assert all(pool.owns(value) for value in owned)
    strangers = [array.copy(), tensor.clone(), array + 0, model.numpy()["w"], None, 1, [array]]
    strangers += [np.zeros((0, 2)), torch.zeros(0), torch.eye(2).to_sparse()]
    assert not any(pool.owns(value) for value in strangers)


def test_an_empty_slot_owns_nothing():
    """Before the first copy and after release."""
    pool = SlotPool()
    assert not pool.owns(np.ones(1))
    array = pool.take(params(w=np.ones(3)), "numpy")["w"]
    pool.release()
    assert (pool.nbytes, pool.owns(array), array.tolist()) == (0, False, [1, 1, 1])


def test_types_of_both_frameworks_are_made():
    """bfloat16 needs ml_dtypes in NumPy and nothing in torch."""
    model = params(w=np.ones(2, ml_dtypes.bfloat16), n=np.int64(3), e=np.zeros((0, 2)))
    pool = SlotPool()
    arrays, tensors = pool.take(model, "numpy"), pool.take(model, "torch")
    assert arrays["w"].dtype == ml_dtypes.bfloat16
    assert tensors["w"].dtype is torch.bfloat16
    assert (arrays["n"].shape, tensors["n"].item(), tensors["e"].shape) == ((), 3, (0, 2))


def test_every_copy_starts_at_a_cache_line():
    """Kernels are faster there, and every type is aligned."""
    taken = SlotPool().take(params(a=np.ones(1, np.uint8), b=np.ones(3)), "numpy")
    assert [address_of(array) % 64 for array in taken.values()] == [0, 0]
