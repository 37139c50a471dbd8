"""SCAFFOLD's helpers: against the equations of the paper, for PyTorch and for Keras' layers."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from flare_async.client.scaffold import AlgorithmConstants, PTScaffoldHelper, get_lr_values
from flare_async.client.scaffold_tf import TFScaffoldHelper
from flare_async.client.scaffold_tf import get_lr_values as rates_of_keras
from flare_async.errors import TensorFormatError
from flare_async.model import FLModel

RATES = [0.1, 0.1, 0.05]


class Plain:
    """Gradient steps in NumPy, with the paper's controls."""

    def __init__(self, weights, control, own):
        self.x, self.y, self.control, self.own = weights, weights.copy(), control, own

    def step(self, gradient, rate):
        """Take one corrected step."""
        self.y = self.y - rate * (gradient - self.own + self.control)

    def change(self):
        """Return what the site's control has changed by."""
        return -self.control + (self.x - self.y) / sum(RATES)


def test_steps_and_controls_in_torch_are_those_of_the_paper():
    """Two rounds; the second one starts from the control of the first."""
    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False), torch.nn.BatchNorm1d(1)).double()
    helper, rng = PTScaffoldHelper(), np.random.default_rng(2)
    helper.init(net)
    own = np.zeros((1, 2))
    for number in range(2):
        sent = {name: rng.normal(size=array.shape) for name, array in net.state_dict().items()}
        received, mine = (
            copy.deepcopy(net),
            Plain(net[0].weight.detach().numpy().copy(), sent["0.weight"], own),
        )
        meta = {AlgorithmConstants.SCAFFOLD_CTRL_GLOBAL: sent}
        helper.receive(FLModel(current_round=number, meta=meta), "site-1")
        controls = helper.get_params()
        for rate in RATES:
            gradient = rng.normal(size=(1, 2))
            optimizer = torch.optim.SGD([net[0].weight], lr=rate)
            net[0].weight.grad = torch.from_numpy(gradient)
            optimizer.step()
            helper.model_update(net, get_lr_values(optimizer)[0], *controls)
            mine.step(gradient, rate)
        helper.terms_update(net, RATES[-1], *controls, received)
        delta = helper.get_delta_controls()
        np.testing.assert_allclose(net[0].weight.detach().numpy(), mine.y, rtol=0, atol=1e-12)
        np.testing.assert_allclose(delta["0.weight"], mine.change(), rtol=0, atol=1e-12)
        own = own + delta["0.weight"]
        assert helper.cnt == 3
    assert delta.keys() == sent.keys()
    assert not delta["1.running_mean"].any()


class Weight:
    """What a weight of a Keras layer can do."""

    def __init__(self, value):
        self.value = np.asarray(value)

    def numpy(self):
        """Return the value."""
        return self.value

    def assign(self, value):
        """Take another one."""
        self.value = np.asarray(value)


class Net:
    """A model with one layer that has a running mean and a trained weight, and one without."""

    def __init__(self, value, name="norm"):
        self.weights = [Weight(np.ones(2)), Weight(value)]
        self.trainable_weights = self.weights[1:]
        for weight, kind in zip(self.weights, ("moving_mean", "gamma"), strict=True):
            weight.path = f"{name}/{kind}"
        empty = SimpleNamespace(name="relu", weights=[])
        self.layers = [SimpleNamespace(name=name, weights=self.weights), empty]

    def get_weights(self):
        """Return the arrays."""
        return [weight.numpy() for weight in self.weights]

    def set_weights(self, arrays):
        """Take arrays."""


@pytest.mark.parametrize(
    ("name", "others"),
    [("norm/gamma", {}), ("norm", {}), ("norm/1", {}), ("norm/gamma", {"norm/moving_mean": 9.0})],
)
def test_steps_and_controls_by_layers_are_those_of_the_paper(name, others):
    """As for PyTorch, by paths and by layers; what is not trained here has no control."""
    rng = np.random.default_rng(4)
    first = rng.normal(size=2)
    net, received, helper = Net(first), Net(first), TFScaffoldHelper()
    helper.init(net)
    sent = rng.normal(size=2)
    given = [np.full(2, 9.0), sent] if name == "norm" else sent
    helper.load_global_controls({name: given} | {other: np.zeros(2) for other in others})
    controls, mine = helper.get_params(), Plain(first, sent, np.zeros(2))
    fixed, weight = net.weights
    for rate in RATES:
        gradient = rng.normal(size=2)
        weight.assign(weight.numpy() - rate * gradient)
        helper.model_update(net, Weight(rate).numpy(), *controls)
        mine.step(gradient, rate)
    helper.terms_update(net, 0.05, *controls, received)
    delta = helper.get_delta_controls()
    np.testing.assert_allclose(weight.numpy(), mine.y, rtol=0, atol=1e-12)
    key = "norm/1" if name == "norm" else name
    np.testing.assert_allclose(delta.pop(key), mine.change(), rtol=0, atol=1e-12)
    assert fixed.numpy().tolist() == [1.0, 1.0]
    assert not any(value.any() for value in delta.values())
    assert delta.keys() == ({"norm/0"} if name == "norm" else others.keys())


@pytest.mark.parametrize("kind", [PTScaffoldHelper, TFScaffoldHelper])
def test_calls_out_of_turn_say_what_to_do_first(kind):
    """Each helper knows where its round stands."""
    helper = kind()
    with pytest.raises(ValueError, match="call init"):
        helper.get_params()
    with pytest.raises(ValueError, match="call terms_update"):
        helper.get_delta_controls()
    with pytest.raises(ValueError, match=r"0 steps with a rate of 0\.1"):
        helper.terms_update(None, 0.1, {}, {}, None)


def test_controls_that_do_not_fit_are_refused():
    """The message names the tensor or the layer."""
    helper = PTScaffoldHelper()
    helper.init(torch.nn.Linear(2, 1))
    with pytest.raises(ValueError, match=r"'module\.weight', \.\.\. are controls of another model"):
        helper.load_global_controls({"module.weight": np.zeros((1, 2))})
    with pytest.raises(ValueError, match=r"control 'weight' is \(2,\), the parameter is \(1, 2\)"):
        helper.load_global_controls({"weight": np.zeros(2)})
    by_layer = TFScaffoldHelper()
    by_layer.init(Net(np.zeros(2)))
    with pytest.raises(ValueError, match=r"control 'norm/gamma' is \(3,\), the weight is \(2,\)"):
        by_layer.load_global_controls({"norm/gamma": np.zeros(3)})
    with pytest.raises(TensorFormatError, match="'dense/kernel' is missing"):
        by_layer.load_global_controls({"dense/kernel": np.zeros(2)})


def test_a_net_of_another_numbering_takes_the_controls_of_all_that_is_trained():
    """Keras numbers the layers of a process."""
    helper = TFScaffoldHelper()
    helper.init(Net(np.zeros(2), name="norm_7"))
    helper.load_global_controls({"norm/gamma": np.ones(2)})
    [[_, control]] = helper.get_params()[0].items()
    assert control.tolist() == [1.0, 1.0]


def stepped(helper, net, names):
    """Return the change of the controls after one step; the server has controls of ones."""
    shapes = net.state_dict()
    helper.load_global_controls({name: np.ones(shapes[name].shape) for name in names})
    controls, received = helper.get_params(), copy.deepcopy(net)
    helper.model_update(net, 0.5, *controls)
    helper.terms_update(net, 0.5, *controls, received)
    return helper.get_delta_controls()


def test_what_is_frozen_or_excluded_is_left_alone():
    """Frozen here, it is answered with zeros; excluded at the server, it is not answered."""
    net, helper = torch.nn.Linear(2, 1), PTScaffoldHelper()
    net.weight.requires_grad_(False)
    helper.init(net)
    before = copy.deepcopy(net.state_dict())
    delta = stepped(helper, net, ["weight", "bias"])
    assert (delta["weight"].any(), delta["bias"].any()) == (False, False)
    assert net.bias.item() == pytest.approx(before["bias"].item() - 0.5)
    assert torch.equal(net.weight, before["weight"])
    other = torch.nn.Linear(2, 1)
    helper.init(other)
    kept = other.weight.detach().clone()
    assert stepped(helper, other, ["bias"]).keys() == {"bias"}
    assert torch.equal(other.weight, kept)


def test_a_control_survives_its_process():
    """What is kept is a copy, and fits no other model."""
    net, first, second = torch.nn.Linear(2, 1), PTScaffoldHelper(), PTScaffoldHelper()
    for helper in (first, second):
        helper.init(net)
    kept = first.state_dict()
    kept["bias"] += 2
    second.load_state_dict(kept)
    assert second.get_params()[1]["bias"].item() == 2
    assert first.get_params()[1]["bias"].item() == 0
    with pytest.raises(ValueError, match="1 controls of another model, 2 here"):
        second.load_state_dict({"bias": kept["bias"]})


def test_a_control_of_keras_survives_its_process():
    """By the places of the weights."""
    first, second = TFScaffoldHelper(), TFScaffoldHelper()
    for helper in (first, second):
        helper.init(Net(np.zeros(2)))
    kept = first.state_dict()
    kept["1"] += 3
    second.load_state_dict(kept)
    assert second.state_dict()["1"].tolist() == [3.0, 3.0]
    assert first.state_dict()["1"].tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="1 controls of another model, 1 here"):
        second.load_state_dict({"0": np.zeros(2)})


def test_names_and_rates_are_those_that_scripts_know():
    """The keys are what travels."""
    keys = AlgorithmConstants.SCAFFOLD_CTRL_GLOBAL, AlgorithmConstants.SCAFFOLD_CTRL_DIFF
    assert keys == ("scaffold_c_global", "scaffold_c_diff")
    assert rates_of_keras(SimpleNamespace(learning_rate=0.5)) == [0.5]
