"""The proximal terms: against the formula, and where they may not be used."""

from __future__ import annotations

import copy

import pytest
import torch

from flare_async.client.ditto import PTDittoHelper
from flare_async.client.fedprox import PTFedProxLoss, TFFedProxLoss


@pytest.fixture
def nets():
    """Return a local model and the global one that it started from."""
    torch.manual_seed(3)
    received = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    local = copy.deepcopy(received)
    with torch.no_grad():
        for parameter in local.parameters():
            parameter.add_(torch.randn_like(parameter))
        local[1].running_mean += 5.0
    return local, received


def test_the_term_is_half_mu_times_the_squared_distance(nets):
    """Of parameters alone: running means do not count."""
    local, received = nets
    pairs = zip(local.parameters(), received.parameters(), strict=True)
    expected = sum(((a - b).detach() ** 2).sum().item() for a, b in pairs) * 0.3 / 2
    assert PTFedProxLoss(0.3)(local, received).item() == pytest.approx(expected, rel=1e-6)


def test_its_gradient_pulls_towards_the_global_model_and_leaves_that_alone(nets):
    """The gradient is mu times the difference."""
    local, received = nets
    PTFedProxLoss(0.3)(local, received).backward()
    for a, b in zip(local.parameters(), received.parameters(), strict=True):
        torch.testing.assert_close(a.grad, 0.3 * (a - b).detach())
        assert b.grad is None


def test_other_models_are_refused(nets):
    """Their parameters would be compared by chance."""
    local, _ = nets
    with pytest.raises(ValueError, match=r"'0\.weight' stands where the global model has 'weight'"):
        PTFedProxLoss()(local, torch.nn.Linear(3, 2))


@pytest.mark.parametrize("mu", [-0.1, float("nan"), float("inf")])
def test_a_weight_below_zero_is_refused(mu):
    """By both classes."""
    with pytest.raises(ValueError, match="mu="):
        PTFedProxLoss(mu)
    with pytest.raises(ValueError, match="mu="):
        TFFedProxLoss([], [], mu, max)
    with pytest.raises(ValueError, match="1 and 0"):
        TFFedProxLoss([1], [], 0.1, max)


def test_ditto_trains_the_personal_model_by_its_equation(nets):
    """One step: v - lr * (g(v) + lambda * (v - w)); the first model is copied."""
    start, received = (net[0] for net in nets)
    helper = PTDittoHelper(start, ditto_lambda=0.5)
    rows, targets = torch.randn(8, 3), torch.randn(8, 2)
    loss_of = torch.nn.MSELoss()
    loss_of(start(rows), targets).backward()
    optimizer = torch.optim.SGD(helper.model.parameters(), lr=0.1)
    assert helper.local_train([(rows, targets)], received, loss_of, optimizer) == 1
    triples = zip(helper.model.parameters(), start.parameters(), received.parameters(), strict=True)
    for v, first, w in triples:
        torch.testing.assert_close(v, first - 0.1 * (first.grad + 0.5 * (first - w)))
