"""Every model at every site: the matrix, where its models come from, and who is asked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from flare_async import FLModel, SimEnv
from flare_async.errors import ConfigError
from flare_async.recipes import (
    AsyncFedAvgRecipe,
    CyclicRecipe,
    FedAvgRecipe,
    FedBuffRecipe,
    NumpyCrossSiteEvalRecipe,
    add_cross_site_evaluation,
)
from flare_async.transfer.files import read_file

SCRIPT = Path(__file__).with_name("cross_site_script.py")


def train(model, site):
    """Add the site's number; site-9 sends what is not finite in round 1."""
    w = model.params["w"] + np.float32(site.index + 1)
    if site.config.get("bad") and site.round_number == 1:
        w = w * np.float32(np.nan)
    return FLModel(params={"w": w, "kept": model.params["kept"] + 1})


def evaluate(model, site):
    """Return the model's mean at this site."""
    return {"mean": float(model.params["w"].mean()), "at": float(site.index)}


def recipe(made=FedAvgRecipe, **options):
    """Return a recipe with cross-site evaluation."""
    model = {"w": np.zeros(4, np.float32), "kept": np.zeros(2, np.float32)}
    usual = {"model": model, "train": train, "evaluate": evaluate, "key_metric": "mean"}
    found = made(**{**usual, "min_clients": 2, "num_rounds": 2, **options})
    add_cross_site_evaluation(found)
    return found


def results(run):
    """Return the matrix that a run has written."""
    text = (run.folder / "cross_site_val" / "cross_val_results.json").read_text("utf-8")
    return json.loads(text)


def means(run, site="site-1"):
    """Return the mean of each model at one site."""
    return {owner: metrics["mean"] for owner, metrics in results(run)[site].items()}


def env(folder, **options):
    """Return an environment of three sites."""
    settings = {"workers": "inline", "workspace_root": folder, **options}
    return SimEnv(num_clients=3, **settings)


@pytest.mark.parametrize(
    ("transfer", "options"),
    [
        ("FULL", {}),
        ("DIFF", {}),
        ("FULL", {"transport": "tcp", "relays": 2, "relay_mode": "reduce"}),
        pytest.param("DIFF", {"workers": "process", "num_threads": 2}, marks=pytest.mark.slow),
    ],
)
def test_every_model_is_evaluated_at_every_site(tmp_path, transfer, options):
    """Those that sites have sent last, the server's last one and its best one."""
    run = recipe(params_transfer_type=transfer).execute(env(tmp_path, **options))
    found = results(run)
    assert list(found) == ["site-1", "site-2", "site-3"]
    owners = {"site-1": 3, "site-2": 4, "site-3": 5, "SRV_server": 4, "SRV_best_server": 4}
    assert means(run, "site-3") == owners
    assert {site: rows["SRV_server"]["at"] for site, rows in found.items()} == {
        "site-1": 0,
        "site-2": 1,
        "site-3": 2,
    }


def test_the_models_of_the_sites_are_files_of_the_run(tmp_path):
    """As they were sent, excluded tensors with the values of the model that was received."""
    run = recipe(exclude_vars="kept").execute(env(tmp_path))
    folder = run.folder / "cross_site_val" / "model_shareables"
    kept = read_file(folder / "site-2.safetensors").numpy()
    assert kept["w"].tolist() == [4, 4, 4, 4]
    assert sorted(path.name for path in folder.iterdir()) == [
        f"site-{number}.safetensors" for number in (1, 2, 3)
    ]


@pytest.mark.parametrize(
    ("made", "options"),
    [
        (FedAvgRecipe, {"aggregator": "median"}),
        (CyclicRecipe, {}),
        (FedBuffRecipe, {"buffer_size": 3}),
        (AsyncFedAvgRecipe, {"num_rounds": 5}),
    ],
)
def test_other_recipes_are_evaluated_alike(tmp_path, made, options):
    """Their sites' last models, and the server's."""
    run = recipe(made, **options).execute(env(tmp_path))
    assert {"site-1", "site-2", "site-3", "SRV_server"} <= set(means(run))
    server = float(run.model.numpy()["w"].mean())
    assert means(run)["SRV_server"] == pytest.approx(server)


def test_an_update_that_is_refused_leaves_the_former_model(tmp_path):
    """What is not finite is no model."""
    made = recipe(per_site_config={"site-3": {"bad": True}})
    run = made.execute(env(tmp_path))
    assert means(run)["site-3"] == 3
    assert run.history.failed_sites().keys() == {"site-3"}


def test_a_site_that_cannot_evaluate_is_missing_and_nothing_else(tmp_path):
    """Its models are evaluated at the others."""

    def quiet(model, site):
        if site.round_number >= 2 and site.name == "site-2":
            raise RuntimeError("no data here")
        return evaluate(model, site)

    made = recipe(evaluate=quiet)
    run = made.execute(env(tmp_path))
    found = results(run)
    assert found["site-2"] == {}
    assert "site-2" in found["site-1"]


@pytest.mark.slow
@pytest.mark.parametrize("external", [False, True])
def test_scripts_evaluate_and_none_is_started_again(tmp_path, external):
    """The process that has trained says how often it has."""
    made = FedAvgRecipe(
        model=np.zeros(3, np.float32),
        train_script=SCRIPT,
        launch_external_process=external,
        min_clients=2,
        num_rounds=2,
    )
    add_cross_site_evaluation(made)
    run = made.execute(SimEnv(num_clients=2, workspace_root=tmp_path))
    assert means(run)["site-2"] == 1.5 + 2
    trained = {m["trained"] for rows in results(run).values() for m in rows.values()}
    assert trained == {2}


@pytest.mark.slow
@pytest.mark.parametrize("external", [False, True])
def test_scripts_submit_their_models_where_nobody_trains(tmp_path, external):
    """Beside the models that the server has in files."""
    np.save(tmp_path / "server.npy", np.full(3, 7, np.float32))
    made = NumpyCrossSiteEvalRecipe(
        eval_script=SCRIPT, model_dir=tmp_path, launch_external_process=external
    )
    run = made.execute(SimEnv(num_clients=2, workspace_root=tmp_path))
    for site in ("site-1", "site-2"):
        assert means(run, site) == {"site-1": 1, "site-2": 2, "SRV_server": 7}
    assert {m["trained"] for m in results(run)["site-1"].values()} == {0}


def test_functions_evaluate_the_models_of_the_server(tmp_path):
    """By their labels, from files of both kinds."""
    np.save(tmp_path / "first.npy", np.full(3, 7, np.float32))
    np.save(tmp_path / "other.npy", np.full(3, 8, np.float32))

    def mean(model, site):
        return {"mean": float(model.params["numpy_key"].mean())}

    made = NumpyCrossSiteEvalRecipe(
        "pretrained",
        evaluate=mean,
        initial_ckpt=tmp_path / "first.npy",
        model_dir=tmp_path,
        model_name={"second": "other.npy"},
    )
    run = made.execute(SimEnv(num_clients=2, workspace_root=tmp_path, workers="inline"))
    assert means(run) == {"SRV_first": 7, "SRV_second": 8}


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "eval_script"),
        ({"evaluate": evaluate}, "model_dir"),
        ({"evaluate": evaluate, "initial_ckpt": "nowhere.npy"}, "model_dir"),
        ({"evaluate": evaluate, "model_dir": ".", "model_name": {"a": "nowhere"}}, "model_dir"),
        ({"evaluate": evaluate, "validation_timeout": -1}, "validation_timeout"),
    ],
)
def test_what_cannot_be_used_is_named(options, field):
    """At construction."""
    with pytest.raises(ConfigError) as caught:
        NumpyCrossSiteEvalRecipe(**options)
    assert caught.value.field == field


def test_evaluation_is_added_once_and_needs_somebody_who_evaluates():
    """And updates that are held where they arrive."""
    with pytest.raises(ConfigError, match="already"):
        add_cross_site_evaluation(recipe())
    with pytest.raises(ConfigError, match="evaluates"):
        recipe(evaluate=None)
    with pytest.raises(ConfigError, match="staging"):
        recipe(staging="repull")
    plain = FedAvgRecipe(
        model={"w": np.zeros(1, np.float32)}, train=train, evaluate=evaluate, min_clients=1
    )
    with pytest.raises(ConfigError, match="validation_timeout"):
        add_cross_site_evaluation(plain, validation_timeout=0)


def taking_part(names):
    """Return a recipe in whose evaluation only some sites take part."""
    found = recipe()
    found.followers[:] = []
    add_cross_site_evaluation(found, participating_clients=names)
    return found


def test_only_those_who_take_part_are_asked_and_have_models(tmp_path):
    """The server's models are evaluated too."""
    found = results(taking_part(["site-3", "site-1"]).execute(env(tmp_path)))
    assert list(found) == ["site-1", "site-3"]
    assert list(found["site-1"]) == ["site-1", "site-3", "SRV_server", "SRV_best_server"]


@pytest.mark.parametrize("names", [["site-1", "site-9"], [], "site-1", ["site-1", "site-1"]])
def test_who_takes_part_is_checked_before_the_run(tmp_path, names):
    """A misspelt site would be a row that is silently missing."""
    with pytest.raises(ConfigError, match="participating_clients"):
        taking_part(names).execute(env(tmp_path))


def test_a_model_that_cannot_be_read_is_left_out(tmp_path):
    """The others are evaluated, and the log names it."""
    for name in ("first", "second"):
        np.save(tmp_path / f"{name}.npy", np.ones(2))
    files = {"first": "first.npy", "second": "second.npy"}
    made = NumpyCrossSiteEvalRecipe(
        evaluate=lambda model, _: {"mean": float(model.params["numpy_key"].mean())},
        model_dir=tmp_path,
        model_name=files,
    )
    (tmp_path / "second.npy").write_bytes(b"nothing")
    with capture_logs() as logs:
        run = made.execute(env(tmp_path / "runs"))
    assert results(run)["site-2"] == {"SRV_first": {"mean": 1.0}}
    said = [entry["model"] for entry in logs if entry["event"] == "not_evaluated"]
    assert said == ["SRV_second"]
