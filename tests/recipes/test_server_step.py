"""A server's step on tensors of every kind, whatever their size and whose memory they have."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async.recipes.schedules import Constant
from flare_async.recipes.server_optimizers import SGD, Adam, Yogi
from flare_async.recipes.server_step import RuleStep, stepped_names
from flare_async.recipes.torch_step import TorchStep
from flare_async.recipes.trained import trainable_of
from flare_async.transfer.tensors import TensorSet


def tensors(**params):
    """Return a set with memory of its own."""
    return TensorSet.from_params(params).copy()


@given(
    st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=1, max_size=9),
    st.sampled_from(["float16", "float32", "float64"]),
)
def test_a_rate_of_one_lands_on_the_mean(pairs, dtype):
    """But for what is lost where values of very different sizes are taken from one another."""
    old, new = (np.array(values, dtype) for values in zip(*pairs, strict=True))
    step = RuleStep(SGD(), Constant(), ["w"])
    found = step.step(tensors(w=old), tensors(w=new)).numpy()["w"]
    np.testing.assert_allclose(found, new, rtol=0, atol=1e-13)


@pytest.mark.parametrize("rule", [SGD(lr=0.5, momentum=0.9), Adam(lr=0.1), Yogi(lr=0.1)])
def test_a_tensor_of_many_chunks_is_stepped_as_its_values_are(rule):
    """Chunks have no meaning; three steps, so that the state counts too."""
    size, rng = 300_001, np.random.default_rng(1)
    whole, few = RuleStep(rule, Constant(), ["w"]), RuleStep(rule, Constant(), ["w"])
    picked = [0, 131_071, 131_072, size - 1]
    for _ in range(3):
        old, new = rng.normal(size=(2, size)).astype(np.float32)
        found = whole.step(tensors(w=old), tensors(w=new)).numpy()["w"]
        alone = few.step(tensors(w=old[picked]), tensors(w=new[picked])).numpy()["w"]
        assert found[picked].tolist() == alone.tolist()
    assert whole.nbytes == len(rule.slots) * size * 8


def test_the_model_itself_is_never_written_to():
    """A mean may share the memory of tensors that were left out of it."""
    model = tensors(w=np.ones(4, np.float32))
    before = model.model_digest()
    RuleStep(Adam(lr=1.0), Constant(), ["w"]).step(model, model)
    shared = tensors(w=np.zeros(4, np.float32))
    moved = RuleStep(SGD(lr=0.25), Constant(), ["w"]).step(model, shared)
    assert model.model_digest() == before
    assert moved.numpy()["w"].tolist() == [0.75] * 4
    assert shared.numpy()["w"].tolist() == [0.75] * 4  # the mean has lent its memory


def test_torch_steps_half_precision_as_it_is():
    """Bits of bfloat16 go through torch and back."""
    import torch

    old, new = (
        torch.full((3,), 1.0, dtype=torch.bfloat16),
        torch.full((3,), 2.0, dtype=torch.bfloat16),
    )
    model = TensorSet.from_params({"w": old}).copy()
    config = {"class_path": "torch.optim.SGD", "args": {"lr": 0.5}}
    step = TorchStep(config, lambda rate: Constant(), model, ["w"])
    found = step.step(model, TensorSet.from_params({"w": new}).copy())
    assert found.torch()["w"].tolist() == [1.5] * 3


def test_tied_integer_empty_and_excluded_tensors_have_no_step():
    """A tied tensor moves with the first of its names."""
    tied = np.zeros(2, np.float32)
    model = TensorSet.from_params(
        {
            "a": tied,
            "b": tied,
            "n": np.zeros(2, np.int64),
            "none": np.zeros(0, np.float32),
            "left": np.zeros(2, np.float32),
            "buffer": np.zeros(2, np.float32),
        }
    )
    assert stepped_names(model, {"a", "b", "n", "none", "left"}, {"left"}) == ("a",)
    assert stepped_names(model, None, ()) == ("a", "left", "buffer")


def test_keras_says_which_weights_are_trained():
    """By layer and position, as they travel to scripts."""
    weights = [object(), object()]
    layer = SimpleNamespace(name="norm", weights=weights, trainable_weights=weights[1:])
    model = SimpleNamespace(layers=[layer], get_weights=list, set_weights=list)
    assert trainable_of(model, ["norm/0", "norm/1"]) == {"norm/1"}
    assert trainable_of({}, ["a/moving_mean", "bn.running_var", "w"]) == {"w"}
