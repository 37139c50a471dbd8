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
    for _ in range(2):
        sent = {name: rng.normal(size=array.shape) for name, array in net.state_dict().items()}
        received, mine = (
            copy.deepcopy(net),
            Plain(net[0].weight.detach().numpy().copy(), sent["0.weight"], own),
        )
        helper.load_global_controls(sent)
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


def layers(value):
    """Return a model with one layer that has a trained weight and a running mean."""
    weights = [Weight(value), Weight(np.ones(2))]
    layer = SimpleNamespace(name="norm", weights=weights, trainable_weights=weights[:1])
    empty = SimpleNamespace(name="relu", weights=[], trainable_weights=[])
    return SimpleNamespace(layers=[layer, empty])


def test_steps_and_controls_by_layers_are_those_of_the_paper():
    """As for PyTorch; what is not trained has no control."""
    rng = np.random.default_rng(4)
    first = rng.normal(size=2)
    net, received, helper = layers(first), layers(first), TFScaffoldHelper()
    helper.init(net)
    sent = rng.normal(size=2)
    helper.load_global_controls({"norm": [sent, np.full(2, 9.0)]})
    controls, mine = helper.get_params(), Plain(first, sent, np.zeros(2))
    weight, fixed = net.layers[0].weights
    for rate in RATES:
        gradient = rng.normal(size=2)
        weight.assign(weight.numpy() - rate * gradient)
        helper.model_update(net, Weight(rate).numpy(), *controls)
        mine.step(gradient, rate)
    helper.terms_update(net, 0.05, *controls, received)
    delta = helper.get_delta_controls()["norm"]
    np.testing.assert_allclose(weight.numpy(), mine.y, rtol=0, atol=1e-12)
    np.testing.assert_allclose(delta[0], mine.change(), rtol=0, atol=1e-12)
    assert fixed.numpy().tolist() == [1.0, 1.0]


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
    with pytest.raises(ValueError, match="control 'bias' is missing among 1"):
        helper.load_global_controls({"weight": np.zeros((1, 2))})
    with pytest.raises(ValueError, match=r"control 'weight' is \(2,\), the parameter is \(1, 2\)"):
        helper.load_global_controls({"weight": np.zeros(2)})
    by_layer = TFScaffoldHelper()
    by_layer.init(layers(np.zeros(2)))
    with pytest.raises(ValueError, match="layer 'norm': 0 controls for 2 weights"):
        by_layer.load_global_controls({})


def test_names_and_rates_are_those_that_scripts_know():
    """The keys are what travels."""
    keys = AlgorithmConstants.SCAFFOLD_CTRL_GLOBAL, AlgorithmConstants.SCAFFOLD_CTRL_DIFF
    assert keys == ("scaffold_c_global", "scaffold_c_diff")
    assert rates_of_keras(SimpleNamespace(learning_rate=0.5)) == [0.5]
