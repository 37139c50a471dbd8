"""Federated evaluation: every site's metrics of one model, and their mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flare_async import SimEnv
from flare_async.errors import ConfigError, RunFailed
from flare_async.recipes import FedEvalRecipe
from flare_async.transfer.files import file_chunks
from flare_async.transfer.tensors import TensorSet

SCRIPT = Path(__file__).with_name("cross_site_script.py")


def evaluate(model, site):
    """Return the sum of the model and the site's number of examples."""
    if site.config.get("bad"):
        raise RuntimeError("no data here")
    return {"accuracy": float(model.params["w"].sum()) + site.index, "num_examples": site.index + 1}


def recipe(**options):
    """Return a recipe with the usual arguments."""
    usual = {"model": {"w": np.ones(4, np.float32)}, "evaluate": evaluate, "min_clients": 2}
    return FedEvalRecipe(**{**usual, **options})


@pytest.mark.parametrize(
    "options",
    [{}, {"workers": "process"}, {"transport": "tcp"}, {"relays": 2, "relay_mode": "reduce"}],
)
def test_every_site_evaluates_the_model_once(tmp_path, options):
    """The mean is weighted by the examples; nobody trains, and nothing is sent back."""
    env = SimEnv(num_clients=3, workspace_root=tmp_path, **{"workers": "inline", **options})
    run = recipe().execute(env)
    [row] = run.history.rounds
    assert [site.metrics["accuracy"] for site in row.sites] == [4, 5, 6]
    assert (row.task, row.bytes_up) == ("validate", 0)
    [model] = run.history.models
    assert model.metrics["accuracy"] == pytest.approx((4 + 2 * 5 + 3 * 6) / 6)
    assert model.version == 0


def test_the_checkpoint_takes_the_place_of_the_models_values(tmp_path):
    """A safetensors file with its tensors."""
    path = tmp_path / "eval.safetensors"
    stored = TensorSet.from_params({"w": np.full(4, 2, np.float32)})
    path.write_bytes(b"".join(file_chunks(stored)))
    run = recipe(eval_ckpt=path).execute(SimEnv(num_clients=2, workspace_root=tmp_path))
    assert [site.metrics["accuracy"] for site in run.history.rounds[0].sites] == [8, 9]


@pytest.mark.slow
@pytest.mark.parametrize("external", [False, True])
def test_a_script_evaluates_what_it_receives(tmp_path, external):
    """``is_evaluate`` is true, in threads and in processes."""
    made = recipe(
        model=np.full(3, 5, np.float32),
        evaluate=None,
        eval_script=SCRIPT,
        launch_external_process=external,
    )
    run = made.execute(SimEnv(num_clients=2, workspace_root=tmp_path))
    assert [site.metrics["mean"] for site in run.history.rounds[0].sites] == [5, 5]
    assert run.history.models[0].metrics["own"] == 1.5


def test_a_site_that_fails_is_left_out_down_to_the_least(tmp_path):
    """Below ``min_clients`` answers the run fails with the reasons."""
    bad = {"per_site_config": {"site-1": {"bad": True}}}
    env = SimEnv(num_clients=3, workspace_root=tmp_path, workers="inline")
    run = recipe(**bad).execute(env)
    assert run.history.models[0].metrics["accuracy"] == pytest.approx((2 * 5 + 3 * 6) / 5)
    with pytest.raises(RunFailed, match="no data here"):
        recipe(**bad, min_clients=3).execute(env)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"evaluate": None}, "eval_script"),
        ({"model": None}, "model"),
        ({"validation_timeout": 0}, "round_timeout"),
    ],
)
def test_what_cannot_be_used_is_named(options, field):
    """At construction."""
    with pytest.raises(ConfigError) as caught:
        recipe(**options)
    assert caught.value.field == field
