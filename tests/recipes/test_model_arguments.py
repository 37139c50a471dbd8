"""Arguments that no round could use are refused where they stand, and metrics that never come."""

from __future__ import annotations

import numpy as np
import pytest
from structlog.testing import capture_logs

from flare_async import FLModel, SimEnv
from flare_async.errors import ConfigError
from flare_async.recipes import (
    AsyncFedAvgRecipe,
    FedAvgRecipe,
    FedBuffRecipe,
    FedOptRecipe,
    QFedAvgRecipe,
    ScaffoldRecipe,
)
from flare_async.transfer.filters import ExcludeVars


class Tells:
    """A train function whose sites report these metrics, by round."""

    def __init__(self, *rounds):
        self.rounds = rounds

    def __call__(self, model, site):
        """Move, and report."""
        number = min(site.round_number, len(self.rounds) - 1)
        return FLModel(params={"w": model.params["w"] + 1}, metrics=self.rounds[number])


def made(kind=FedAvgRecipe, metrics=(None,), **options):
    """Return a recipe of one site."""
    usual = {"model": {"w": np.zeros(2, np.float32)}, "min_clients": 1, "num_rounds": 6}
    return kind(**{**usual, "train": Tells(*metrics), **options})


def rounds_of(recipe, folder):
    """Return how many rounds a run has, and what it warned of."""
    with capture_logs() as logs:
        run = recipe.execute(SimEnv(num_clients=1, workers="inline", workspace_root=folder))
    return len(run.history.rounds), [one for one in logs if one["event"] == "metrics_missing"]


@pytest.mark.parametrize("kind", [FedAvgRecipe, AsyncFedAvgRecipe])
@pytest.mark.parametrize(
    "weights",
    [{"site-1": weight} for weight in (0, -1.0, "2", None, True, float("nan"), float("inf"))]
    + [[1.0]],
)
def test_a_weight_that_would_refuse_every_update_is_refused_at_once(kind, weights):
    """Not in each round, with a reason that names the product."""
    with pytest.raises(ConfigError) as caught:
        made(kind, aggregation_weights=weights)
    assert caught.value.field.startswith("aggregation_weights")


@pytest.mark.parametrize("kind", [FedAvgRecipe, FedOptRecipe, ScaffoldRecipe, QFedAvgRecipe])
def test_a_pattern_that_cannot_be_used_is_named_as_it_was_given(kind):
    """It is no expression, or it leaves nothing that changes."""
    for pattern in ("(", "w|v"):
        with pytest.raises(ConfigError) as caught:
            made(kind, exclude_vars=pattern)
        assert caught.value.field == "exclude_vars"


def test_weights_and_an_aggregator_contradict_each_other():
    """Its arithmetic is its own."""
    with pytest.raises(ConfigError) as caught:
        made(aggregator="median", aggregation_weights={"site-1": 2.0})
    assert caught.value.field == "aggregation_weights"


def test_patience_does_not_count_evaluations_without_the_metric(tmp_path):
    """A script that reports a loss only would be ended after two rounds; it is told instead."""
    rounds, [warning] = rounds_of(made(metrics=[{"loss": 1.0}], patience=2), tmp_path)
    assert rounds == 6
    assert (warning["missing"], warning["found"]) == (["accuracy"], ["loss"])


def test_a_metric_that_was_there_once_is_missed(tmp_path):
    """What is not a number any more is no better than before."""
    metrics = [{"accuracy": 0.5}, {"accuracy": float("nan"), "loss": 1.0}]
    assert rounds_of(made(metrics=metrics, patience=2), tmp_path) == (3, [])


def test_a_condition_on_a_metric_that_nobody_reports_is_told(tmp_path):
    """Once a run."""
    recipe = made(metrics=[{"accuracy": 0.5}], stop_cond="acc >= 0.1")
    rounds, [warning] = rounds_of(recipe, tmp_path)
    assert (rounds, warning["missing"]) == (6, ["acc"])


def test_the_lowest_ends_patience_too(tmp_path):
    """With a metric that is better when it falls."""
    metrics = [{"loss": value} for value in (3.0, 2.0, 2.5, 2.0, 1.0)]
    recipe = made(metrics=metrics, key_metric="loss", lower_is_better=True, patience=2)
    assert rounds_of(recipe, tmp_path) == (4, [])


@pytest.mark.parametrize("kind", [FedAvgRecipe, FedBuffRecipe, ScaffoldRecipe, FedOptRecipe])
def test_what_filters_hold_is_in_every_plan(kind):
    """A model that is filtered on its way out stands beside the one that is not."""
    recipe = made(kind)
    recipe.add_server_output_filter(ExcludeVars("v"))
    demand = recipe.demand()
    assert demand.filters >= demand.model
