"""q-FedAvg: losses that are missing, zero or large, and options that cannot be."""

from __future__ import annotations

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
    assert found == pytest.approx(np.full(size, 3 / (size * 5 + 2)), rel=1e-5)


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
