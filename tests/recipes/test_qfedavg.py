"""q-FedAvg: losses that are missing, zero or large, and options that cannot be."""

from __future__ import annotations

import re

import numpy as np
import pytest

from flare_async import FLModel, SimEnv
from flare_async.errors import ConfigError
from flare_async.recipes.qfedavg import QFedAvgRecipe
from tests.recipes import sites


class Losses:
    """A train function whose sites tell losses off a list."""

    def __init__(self, *losses):
        self.losses = losses

    def __call__(self, model, site):
        """Move by the site's number."""
        new = {"w": model.params["w"] + site.index + 1}
        found = self.losses[site.index]
        return FLModel(params=new, meta={} if found is None else {"loss": found})


def run(tmp_path, train, **options):
    """Return a run of one round with two sites."""
    made = QFedAvgRecipe(
        **{
            "model": {"w": np.zeros(1, np.float32)},
            "train": train,
            "min_clients": 1,
            "num_rounds": 1,
            "q": 1.0,
            "lr": 1.0,
            **options,
        }
    )
    env = SimEnv(num_clients=2, workers="inline", workspace_root=tmp_path)
    return made.execute(env)


@pytest.mark.parametrize("loss", [None, -1.0, float("inf"), "high"])
def test_an_update_without_a_loss_is_refused(tmp_path, loss):
    """It would have no weight; the others go on."""
    record = run(tmp_path, Losses(loss, 1.0)).history.rounds[0].sites[0]
    assert record.status == "refused"
    assert "loss" in record.reason


def test_a_loss_of_zero_counts_for_nothing_and_does_no_harm(tmp_path):
    """By the formula: 2 * 1 / (2**2 + 1 + 1), where a site without loss adds its 1 only."""
    found = run(tmp_path, Losses(0.0, 1.0)).model.numpy()["w"][0]
    assert found == pytest.approx(2 / (4 + 1 + 1), rel=1e-6)


def test_a_tensor_beyond_a_mebibyte_is_measured_in_chunks(tmp_path):
    """With all moves equal, the step is that of one value times the number of values."""
    size = 300_000
    model = {"w": np.zeros(size, np.float32)}
    found = run(tmp_path, Losses(1.0, 1.0), model=model).model.numpy()["w"]
    np.testing.assert_allclose(found, np.full(size, 3 / (size * 5 + 2)), rtol=1e-5)


@pytest.mark.parametrize(
    "bad",
    [
        {"q": -1},
        {"lr": 0},
        {"staging": "repull"},
        {"exact": True},
        {"aggregation_weights": {"site-1": 2.0}},
    ],
)
def test_what_cannot_be_used_is_refused(bad):
    """The error names the argument."""
    with pytest.raises(ConfigError) as caught:
        QFedAvgRecipe(model={"w": np.zeros(1)}, train=sites.fair, min_clients=1, **bad)
    assert caught.value.field == next(iter(bad))


def moves(losses, q):
    """Return what the formula makes of two sites that move by 1 and by 2, with L = 1."""
    top = max(losses)
    parts = [loss / top for loss in losses]
    steps = sum(part**q * by for part, by in zip(parts, (1, 2), strict=True))
    bounds = [q * part ** (q - 1) / top * by**2 for part, by in zip(parts, (1, 2), strict=True)]
    return steps / sum(bound + part**q for bound, part in zip(bounds, parts, strict=True))


@pytest.mark.parametrize("losses", [(0.02, 0.01), (1e-5, 2e-5), (300.0, 100.0), (1e-10, 1.0)])
@pytest.mark.parametrize("q", [0.1, 2.0, 5.0, 10.0])
def test_powers_of_small_and_large_losses_are_weights(tmp_path, q, losses):
    """The paper goes up to 15; 0.01 to the power of 10 is below what other means take."""
    found = run(tmp_path, Losses(*losses), q=q).model.numpy()["w"][0]
    assert found == pytest.approx(moves(losses, q), rel=1e-6)


@pytest.mark.parametrize(
    ("loss", "why"), [(1e200, "from 0 to 2\\*\\*53"), (1e14, "1e.14 to the power of 10")]
)
def test_a_loss_beyond_all_powers_is_refused_and_the_others_go_on(tmp_path, loss, why):
    """It has no power as a number, or none that a sum can hold."""
    found = run(tmp_path, Losses(loss, 1.0), q=10.0)
    record = found.history.rounds[0].sites[0]
    assert record.status == "refused"
    assert re.search(why, record.reason)


class Reports:
    """A train function with losses, steps and metrics by site."""

    def __init__(self, steps):
        self.steps = steps

    def __call__(self, model, site):
        """Move, and report."""
        meta = {"loss": 1.0 + 9 * site.index, "NUM_STEPS_CURRENT_ROUND": self.steps[site.index]}
        return FLModel(params=model.params, meta=meta, metrics={"accuracy": float(site.index)})


def test_metrics_are_weighed_by_steps_and_not_by_losses(tmp_path):
    """Those of training, and of the received model."""
    found = run(tmp_path, Reports([3, 1]))
    assert found.history.rounds[0].metrics == {"accuracy": 0.25}
    assert found.history.models[0].metrics == {"accuracy": 0.25}


def test_steps_that_are_no_number_refuse_their_site_only(tmp_path):
    """As in all other recipes."""
    record = run(tmp_path, Reports(["many", 1])).history.rounds[0]
    assert [str(site.status) for site in record.sites] == ["refused", "ok"]


def test_sums_are_wider_where_powers_ask_for_it():
    """With the usual exponent a large model's sum is as large as in FedAvg."""
    made = [
        QFedAvgRecipe(model={"w": np.zeros(2)}, train=sites.fair, min_clients=1, q=q, **options)
        for q, options in ((1.0, {}), (2.0, {}), (2.0, {"accumulator": "float32"}))
    ]
    assert [recipe.accumulator for recipe in made] == [None, "float64", "float32"]


def test_a_sum_in_float32_has_the_bounds_of_all_others(tmp_path):
    """Where the user has asked for it."""
    found = run(tmp_path, Losses(1e-10, 1.0), q=2.0, accumulator="float32")
    record = found.history.rounds[0].sites[0]
    assert (record.status, "below 1.11e-16" in record.reason) == ("refused", True)
