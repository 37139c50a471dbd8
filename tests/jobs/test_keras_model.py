"""A Keras model in a job: what the server holds, what a site gets and may return."""

from __future__ import annotations

import numpy as np
import pytest

from flare_async import FLModel, SimEnv
from flare_async.errors import ConfigError
from flare_async.jobs.models import load_model
from flare_async.recipes import FedAvgRecipe
from flare_async.transfer.files import read_file
from flare_async.transfer.keras_weights import load_weights, weights_of

NAMES = ["z/kernel", "z/bias", "a/kernel", "a/bias"]
SHAPES = [(2, 3), (3,), (3, 1), (1,)]


class Variable:
    """A weight as Keras lists it."""

    def __init__(self, path, value):
        self.path, self.value = path, value


class Net:
    """What a Keras model offers, whatever its backend: its weights, to get and to set."""

    def __init__(self, value=0.0, *, counted=0):
        self.name = "net"
        layer = f"_{counted}/" if counted else "/"
        self.weights = [
            Variable(f"net/{name.replace('/', layer)}", np.full(shape, value, np.float32))
            for name, shape in zip(NAMES, SHAPES, strict=True)
        ]

    def get_weights(self):
        """Return copies in the model's order."""
        return [variable.value.copy() for variable in self.weights]

    def set_weights(self, weights):
        """Take arrays in the same order."""
        for variable, value in zip(self.weights, weights, strict=True):
            assert variable.value.shape == value.shape
            variable.value[...] = value


def fitted(net, site):
    """Train as little as can be told from the result."""
    for variable in net.weights:
        variable.value += site.index + 1


def train(model, site):
    """Set the received weights and return others under the same names."""
    net = Net()
    load_weights(net, model.params)
    fitted(net, site)
    return FLModel(params=weights_of(net, model.params))


def train_renamed(model, site):
    """Use a net whose layers Keras has numbered differently."""
    net = Net(counted=site.index + 3)
    load_weights(net, model.params)
    fitted(net, site)
    return FLModel(params=weights_of(net, model.params))


def train_layers(model, site):
    """Return what Keras calls the weights of a layer."""
    return FLModel(params={"z": [np.zeros((2, 3)), np.zeros(3)], "a": []})


def run_of(model, function, root, workers="inline"):
    """Run two rounds of two sites."""
    recipe = FedAvgRecipe(model=model, min_clients=2, num_rounds=2, train=function)
    return recipe.execute(SimEnv(num_clients=2, workers=workers, workspace_root=root))


def test_a_keras_model_is_its_named_weights():
    """In its own order, with NumPy arrays as params."""
    tensors, framework = load_model(Net(2.0))
    assert (list(tensors), framework) == (NAMES, "numpy")
    assert [spec.shape for spec in tensors.specs] == SHAPES
    assert tensors.numpy()["a/bias"].tolist() == [2.0]


def test_a_keras_class_is_built_on_this_side():
    """As other models are, by its path and arguments."""
    tensors, _ = load_model({"class_path": f"{__name__}.Net", "args": {"value": 4}})
    assert tensors.numpy()["a/bias"].tolist() == [4.0]


def test_a_list_of_arrays_is_a_model_of_positions():
    """What ``get_weights`` returns can be given as it is."""
    tensors, framework = load_model(Net(1.0).get_weights())
    assert (list(tensors), framework) == (["0", "1", "2", "3"], "numpy")


def test_a_model_without_weights_is_refused():
    """The hint says that it must be built."""
    net = Net()
    net.weights = []
    with pytest.raises(ConfigError, match="has no weights yet; build it"):
        load_model(net)


@pytest.mark.parametrize("function", [train, train_renamed])
@pytest.mark.parametrize("workers", ["inline", "thread", "process"])
def test_keras_weights_are_averaged(function, workers, tmp_path):
    """Sites add 1 and 2; the result can be set again, from the run and from its file."""
    run = run_of(Net(), function, tmp_path, workers)
    stored = read_file(run.folder / "FL_global_model.safetensors")
    for tensors in (run.model, stored):
        net = Net()
        load_weights(net, tensors)
        assert {float(value) for array in net.get_weights() for value in array.flat} == {3.0}


def test_a_list_of_arrays_is_averaged(tmp_path):
    """By position; a net takes them by position too."""
    run = run_of(Net(1.0).get_weights(), train, tmp_path)
    assert {name: float(array.flat[0]) for name, array in run.model.numpy().items()} == {
        str(at): 4.0 for at in range(4)
    }


def test_layers_as_lists_are_the_sites_failure(tmp_path):
    """The error says what to return."""
    recipe = FedAvgRecipe(model=Net(), min_clients=2, num_rounds=1, train=train_layers)
    env = SimEnv(num_clients=2, workers="inline", workspace_root=tmp_path)
    run = recipe.execute(env, check=False)
    (record,) = run.history.rounds
    assert run.status == "failed"
    assert "params['z'] is a list of 2 arrays" in record.sites[0].reason
    assert "weights_of(net, model.params)" in record.sites[0].reason
