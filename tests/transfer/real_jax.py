"""JAX itself, run where it is installed: a stage of ``.ci/run``."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flare_async import FLModel, SimEnv
from flare_async.errors import TensorFormatError
from flare_async.recipes import FedAvgRecipe
from flare_async.transfer.capture import capture

pytestmark = [pytest.mark.timeout(120), pytest.mark.filterwarnings("ignore")]
ARRAY = jnp.arange(6.0, dtype=jnp.float32).reshape(2, 3)


def train(model, site):
    """Go half of the way to the site's own number."""
    weights = jnp.asarray(model.params["w"])
    slope = jax.grad(lambda at: jnp.sum((at - site.index) ** 2))(weights)
    return FLModel(params={"w": weights - 0.25 * slope}, metrics={"mean": weights.mean()})


@pytest.mark.parametrize("array", [ARRAY, ARRAY.astype(jnp.bfloat16)])
def test_an_array_travels_without_a_copy(array):
    """Also in a type that NumPy has from another package."""
    found = capture("w", array)
    assert found.spec.shape == (2, 3)
    assert found.flat.ctypes.data == array.unsafe_buffer_pointer()


def test_what_has_no_bytes_is_refused_by_name():
    """Keys of its generators, and what stands for an array while a function is traced."""
    with pytest.raises(TensorFormatError, match="'key': NumPy cannot read"):
        capture("key", jax.random.key(0))
    with pytest.raises(TensorFormatError, match="'w': NumPy cannot read"):
        jax.jit(lambda value: capture("w", value).spec)(ARRAY)


def test_a_model_of_jax_learns():
    """Three rounds with two sites that want 0 and 1."""
    model = {"w": np.zeros(3, np.float32)}
    recipe = FedAvgRecipe(model=model, min_clients=2, num_rounds=3, train=train, framework="jax")
    run = recipe.execute(SimEnv(num_clients=2))
    assert run.model.numpy()["w"].tolist() == [0.4375] * 3
    assert run.history.rounds[-1].metrics == {"mean": 0.375}
