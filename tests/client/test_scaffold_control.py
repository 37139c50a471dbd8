"""A site's control is renewed by what later tasks say, and by nothing else."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from flare_async.client.scaffold import PTScaffoldHelper
from flare_async.client.scaffold_control import AlgorithmConstants, SiteControl, was_counted
from flare_async.client.scaffold_tf import TFScaffoldHelper
from flare_async.model import FLModel
from tests.client.test_scaffold import Net


def task(number, controls=None, **told):
    """Return a task's model; ``told`` are the sites that were asked in vain."""
    meta = {AlgorithmConstants.SCAFFOLD_LAST_COUNTED: json.dumps(told)}
    if controls is not None:
        meta[AlgorithmConstants.SCAFFOLD_CTRL_GLOBAL] = controls
    return FLModel(current_round=number, meta=meta)


def trained(*numbers):
    """Return a control of 0 that these rounds were trained with, each to the round's number + 1."""
    control = SiteControl({"w": 0})
    for number in numbers:
        control.begin(task(number), "a")
        control.renew({"w": number + 1})
    return control


@pytest.mark.parametrize(
    ("later", "value"),
    [
        (task(5), 4),  # not named: counted
        (task(5, a=3), 4),  # asked again since, in vain, and not reached
        (task(5, a=1), 2),
        (task(5, a=-1), 2),  # never counted, though the first round was taken as such
        (task(5, b=1), 4),  # somebody else
        (FLModel(current_round=5), 4),  # a server that says nothing
    ],
)
def test_a_renewal_counts_if_its_round_did(later, value):
    """The former one stays otherwise."""
    assert trained(1, 3).begin(later, "a")["w"] == value


def test_a_renewal_is_decided_once():
    """What a task says later of another round changes nothing."""
    control = trained(1)
    control.begin(task(2), "a")
    assert control.pending is None
    assert control.begin(task(3, a=-1), "a")["w"] == 2


def test_a_task_that_comes_again_was_not_counted():
    """For instance where a worker's answer was lost on the way."""
    assert trained(2).begin(task(2), "a")["w"] == 0


@pytest.mark.parametrize("count", [0, 1])
def test_a_state_has_the_pending_control_too(count):
    """The next process decides."""
    made = SiteControl.from_state(trained(*[7] * count).state())
    assert made.begin(task(8), "a")["w"] == 8 * count
    made = SiteControl.from_state(trained(*[7] * count).state())
    assert made.begin(task(8, a=6), "a")["w"] == 0


def test_what_is_no_answer_is_refused():
    """By a server that is no SCAFFOLD's."""
    meta = {AlgorithmConstants.SCAFFOLD_LAST_COUNTED: "[1]"}
    with pytest.raises(TypeError, match="scaffold_last_counted'] is no object"):
        was_counted(FLModel(current_round=2, meta=meta), "a", 1)
    with pytest.raises(ValueError, match="current_round is None"):
        SiteControl({"w": 0}).begin(FLModel(), "a")


def torch_round(helper, number, **told):
    """Train a round with PyTorch; return the control that it began with."""
    net, received = (torch.nn.Linear(1, 1, bias=False) for _ in range(2))
    helper.receive(task(number, {"weight": np.zeros((1, 1))}, **told), "a")
    controls = helper.get_params()
    with torch.no_grad():
        net.weight.copy_(received.weight - 1)
    helper.model_update(net, 1.0, {}, {})
    helper.terms_update(net, 1.0, *controls, received)
    return controls[1]["weight"].item()


def keras_round(helper, number, **told):
    """Train a round with Keras' layers; return the control that it began with."""
    net = helper.model
    helper.receive(task(number, {"norm/gamma": np.zeros(2)}, **told), "a")
    controls, received = helper.get_params(), Net(net.weights[1].numpy())
    net.weights[1].assign(received.weights[1].numpy() - 1)
    helper.model_update(net, 1.0, {}, {})
    helper.terms_update(net, 1.0, *controls, received)
    return controls[1]["1"][0]


@pytest.mark.parametrize(
    ("kind", "made", "played"),
    [
        (PTScaffoldHelper, lambda: torch.nn.Linear(1, 1, bias=False), torch_round),
        (TFScaffoldHelper, lambda: Net(np.zeros(2)), keras_round),
    ],
)
def test_helpers_keep_the_former_control_of_a_round_that_was_not_counted(kind, made, played):
    """Also in another process; and they do not guess."""
    helper, other = kind(), kind()
    for one in (helper, other):
        one.init(made())
    assert played(helper, 0) == 0
    assert played(helper, 1, a=-1) == 0
    other.load_state_dict(helper.state_dict())
    assert played(helper, 2) == played(other, 2) == 1
    assert played(helper, 3, a=1) == 1
    with pytest.raises(ValueError, match=r"call receive\(model, site\.name\)"):
        helper.load_global_controls({})
