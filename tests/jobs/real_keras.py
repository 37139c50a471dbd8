"""Keras itself, run where it is installed: ``python -m pytest tests/jobs/real_keras.py``.

TensorFlow is a gigabyte and has an environment of its own, so this is no part of the suite.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest

from flare_async import FLModel, SimEnv
from flare_async.jobs.models import load_model
from flare_async.recipes import FedAvgRecipe
from flare_async.transfer.keras_weights import load_weights, weights_of
from flare_async.transfer.tensors import TensorSet

pytestmark = [pytest.mark.timeout(120), pytest.mark.filterwarnings("ignore")]


def net_of(units=1):
    """Return a network with layers that Keras names, and one that has a name of its own."""
    keras.utils.set_random_seed(3)
    layers = [
        keras.Input((4,)),
        keras.layers.Dense(8, activation="relu"),
        keras.layers.BatchNormalization(momentum=0.5, name="norm"),
        keras.layers.Dropout(0.05, name="dropout"),
        keras.layers.Dense(units),
    ]
    net = keras.Sequential(layers)
    net.compile(optimizer=keras.optimizers.Adam(0.05), loss="mse")
    return net


def data_of(site):
    """Return points on a plane, other ones for every site."""
    points = site.rng.normal(size=(64, 4)).astype(np.float32)
    return points, points @ np.array([[1.0], [-2.0], [0.5], [3.0]], np.float32)


def train(model, site):
    """Fit a network that is built anew in every round."""
    net = net_of()
    load_weights(net, model.params)
    points, values = data_of(site)
    net.fit(points, values, epochs=4, batch_size=16, verbose=0)
    return FLModel(
        params=weights_of(net, model.params), meta={"NUM_STEPS_CURRENT_ROUND": len(points)}
    )


def evaluate(model, site):
    """Return the loss of the received model."""
    net = net_of()
    load_weights(net, model.params)
    return {"loss": net.evaluate(*data_of(site), verbose=0)}


def same(arrays, others):
    """Return whether two lists of arrays have the same bits."""
    pairs = zip(arrays, others, strict=True)
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


@pytest.mark.parametrize("workers", ["inline", "thread", "process"])
def test_a_keras_model_learns(workers, tmp_path):
    """The loss falls, and the result is a model that Keras takes."""
    recipe = FedAvgRecipe(
        model=net_of(),
        min_clients=2,
        num_rounds=4,
        train=train,
        evaluate=evaluate,
        key_metric="loss",
        lower_is_better=True,
    )
    run = recipe.execute(SimEnv(num_clients=2, workers=workers, workspace_root=tmp_path))
    losses = [model.metrics["loss"] for model in run.history.models]
    assert losses[-1] < losses[0] / 2
    load_weights(net_of(), run.model)


def test_a_net_takes_the_weights_of_one_that_was_built_before():
    """Keras numbers the layers of a process; names are matched."""
    first, second = net_of(), net_of()
    params = weights_of(first)
    assert set(params) != set(weights_of(second))
    load_weights(second, dict(sorted(params.items())))
    assert same(second.get_weights(), first.get_weights())
    assert list(weights_of(second, params)) == list(params)


class Whole(keras.Model):
    """A subclass with a layer in a list, a shared layer and a weight of its own."""

    def __init__(self):
        super().__init__()
        self.scale = self.add_weight(shape=(1,), name="scale")
        self.first = keras.layers.Dense(4, name="first")
        self.more = [keras.layers.Dense(4, name="second"), self.first]

    def call(self, inputs):
        """Use the shared layer twice."""
        for layer in (self.first, *self.more):
            inputs = layer(inputs)
        return inputs * self.scale


def nested():
    """Return a functional model of two whose layers have the same name."""
    parts = []
    for name in ("encoder", "decoder"):
        start = keras.Input((4,))
        layers = keras.layers.Dense(4, name="dense")(start)
        parts.append(keras.Model(start, keras.layers.Dense(4, name="top")(layers), name=name))
    start = keras.Input((4,))
    return keras.Model(start, parts[1](parts[0](start)))


def test_a_subclass_keeps_every_weight():
    """Those of listed and shared layers once, and those that are in no layer."""
    net = Whole()
    net(np.zeros((1, 4), np.float32))
    tensors, _ = load_model(net)
    assert sorted(tensors) == [
        "first/bias",
        "first/kernel",
        "scale",
        "second/bias",
        "second/kernel",
    ]
    assert same(tensors.numpy().values(), net.get_weights())


def test_models_inside_a_model_keep_their_names_apart():
    """By the outer layers' names, which Keras leaves out."""
    net = nested()
    tensors, _ = load_model(net)
    assert list(tensors)[:2] == ["encoder/dense/kernel", "encoder/dense/bias"]
    other = nested()
    load_weights(other, tensors)
    assert same(other.get_weights(), net.get_weights())


def test_narrow_floats_travel():
    """In the type that Keras gives them."""
    net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, dtype="bfloat16")])
    tensors, _ = load_model(net)
    assert {spec.dtype for spec in tensors.specs} == {"BF16"}
    load_weights(net, TensorSet.from_params(tensors.numpy()))
    assert same(tensors.numpy().values(), net.get_weights())


def test_arrays_alone_are_a_model():
    """What ``get_weights`` returns, by position."""
    net = net_of()
    tensors, _ = load_model(net.get_weights())
    assert same(tensors.numpy().values(), net.get_weights())
