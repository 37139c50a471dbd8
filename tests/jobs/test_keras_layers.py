"""A Keras model whose arrays travel by layer: what scripts written for NVFlare expect."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flare_async import FLModel, SimEnv
from flare_async.errors import ConfigError
from flare_async.jobs.models import load_model
from flare_async.recipes import FedAvgRecipe
from flare_async.transfer.keras_weights import load_weights, weights_of

SCRIPT = Path(__file__).parents[1] / "client" / "scripts" / "keras_client.py"
SHAPES = {"dense": [(2, 3), (3,)], "flatten": [], "top": [(3, 1)]}
NAMES = ["dense/0", "dense/1", "top/0"]


class Variable:
    """A weight."""

    def __init__(self, path, shape):
        self.path, self.value = path, np.zeros(shape, np.float32)


class Layer:
    """A layer's name and weights."""

    def __init__(self, name, shapes):
        self.name = name
        self.weights = [Variable(f"{name}/w{at}", shape) for at, shape in enumerate(shapes)]


class Net:
    """What is needed of a Keras model with layers."""

    def __init__(self, suffix=""):
        self.name = "net"
        self.layers = [Layer(name + suffix, shapes) for name, shapes in SHAPES.items()]

    @property
    def weights(self):
        """Return the weights, of the last layer first."""
        return [weight for layer in reversed(self.layers) for weight in layer.weights]

    def get_weights(self):
        """Return copies of the arrays."""
        return [weight.value.copy() for weight in self.weights]

    def set_weights(self, arrays):
        """Take arrays in the same order."""
        for weight, value in zip(self.weights, arrays, strict=True):
            assert weight.value.shape == value.shape
            weight.value = np.array(value)


def train(model, site):
    """Add one by layers."""
    return FLModel(
        params={name: [array + 1 for array in arrays] for name, arrays in model.params.items()}
    )


def train_by_name(model, site):
    """Add one with the functions that take both forms."""
    net = Net("_7")
    load_weights(net, model.params)
    net.set_weights([array + 1 for array in net.get_weights()])
    return FLModel(params=weights_of(net, model.params))


def values_of(run):
    """Return each tensor's only value."""
    return {name: {float(v) for v in array.flat} for name, array in run.model.numpy().items()}


@pytest.mark.slow
@pytest.mark.parametrize("external", [False, True])
def test_a_script_has_lists_by_layer(external, tmp_path):
    """Without a word about the framework; a layer without weights has an empty list."""
    recipe = FedAvgRecipe(
        model=Net(), min_clients=2, train_script=SCRIPT, launch_external_process=external
    )
    run = recipe.execute(SimEnv(num_clients=2, workspace_root=tmp_path))
    assert values_of(run) == {key: {2.0} for key in NAMES}
    assert run.history.rounds[-1].metrics == {"layers": 2.0}
    net = Net("_3")
    load_weights(net, run.model)
    assert {float(value) for array in net.get_weights() for value in array.flat} == {2.0}


@pytest.mark.parametrize("workers", ["inline", "thread", "process"])
@pytest.mark.parametrize("function", [train, train_by_name])
def test_a_function_has_lists_by_layer_where_the_recipe_says_so(function, workers, tmp_path):
    """It may return lists, or the names under which they travel."""
    recipe = FedAvgRecipe(
        model=Net(), min_clients=2, num_rounds=2, train=function, framework="tensorflow"
    )
    run = recipe.execute(SimEnv(num_clients=2, workers=workers, workspace_root=tmp_path))
    assert values_of(run) == {key: {2.0} for key in NAMES}


def test_lists_by_layer_are_a_model_too():
    """As ``{layer.name: layer.get_weights()}`` gives them."""
    layers = {name: [np.ones(shape) for shape in shapes] for name, shapes in SHAPES.items()}
    tensors, framework = load_model(layers, layered=True)
    assert (list(tensors), framework) == (NAMES, "tensorflow")


def test_a_weight_of_two_layers_is_refused_with_a_hint():
    """Its name would say only half of it."""
    net = Net()
    net.layers.append(net.layers[0])
    with pytest.raises(ConfigError, match='not those of one layer; give framework="numpy"'):
        load_model(net, layered=True)
