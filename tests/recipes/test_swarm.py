"""Swarm learning: the bits of FedAvg, the files of every site, and nothing at the server."""

from __future__ import annotations

import json

import numpy as np
import pytest
from structlog.testing import capture_logs

from flare_async import SimEnv
from flare_async.errors import ConfigError, RunFailed
from flare_async.net.rng import SeededRandom
from flare_async.recipes import (
    ClientCyclicRecipe,
    CyclicRecipe,
    FedAvgRecipe,
    SwarmRecipe,
    add_cross_site_evaluation,
)
from flare_async.transfer.files import read_file
from flare_async.transfer.shelf import Shelf
from tests.recipes.async_sites import accuracy, first, moved, moved_unless_bad

SITES = ("site-1", "site-2", "site-3", "site-4")
LAST, BEST = "FL_global_model.safetensors", "best_FL_global_model.safetensors"


def recipe(cls=SwarmRecipe, **options):
    """Return a recipe with the usual arguments."""
    usual = {"model": first(), "train": moved, "min_clients": 2, "num_rounds": 3}
    return cls(**{**usual, **options})


def env(folder, **options):
    """Return an environment that keeps its runs in a folder."""
    settings = {"num_clients": 4, "workers": "inline", "seed": 5, "workspace_root": folder}
    return SimEnv(**{**settings, **options})


def outcome(run):
    """Return what two runs of one algorithm have in common."""
    best = None if run.best_model is None else run.best_model.model_digest()
    statuses = [[(one.site, one.status, one.weight) for one in r.sites] for r in run.history.rounds]
    return run.model.model_digest(), best, run.history.models, statuses


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"evaluate": accuracy},
        {"evaluate": accuracy, "lower_is_better": True, "params_transfer_type": "DIFF"},
        {"train": moved_unless_bad},
        {"clients_per_round": 2},
        {"aggregator": "median"},
        {"staging": "repull"},
        {"evaluate": accuracy, "stop_cond": "accuracy >= -1e9"},
        {"evaluate": accuracy, "patience": 1, "aggregation_weights": {"site-1": 3.0}},
    ],
    ids=["{}", "best", "lower", "failing", "some", "median", "repull", "stop", "patience"],
)
def test_a_swarm_is_fedavg_bit_for_bit(tmp_path, options):
    """The same sites in the same order, with the same seeds: model, best model and history."""
    swarm, central = (
        recipe(cls, **options).execute(env(tmp_path)) for cls in (SwarmRecipe, FedAvgRecipe)
    )
    assert outcome(swarm) == outcome(central)


@pytest.mark.slow
@pytest.mark.parametrize("cls", [SwarmRecipe, ClientCyclicRecipe])
def test_bits_are_the_same_everywhere(tmp_path, cls):
    """Workers, transports and relays of every mode."""
    digests = {
        recipe(cls).execute(env(tmp_path, **options)).model.model_digest()
        for options in (
            {},
            {"workers": "process", "num_threads": 2},
            {"transport": "tcp"},
            {"relays": 2, "transport": "unix"},
            {"relays": 2, "relay_mode": "cache", "transport": "tcp"},
            {"relays": 2, "relay_mode": "reduce", "transport": "tcp"},
        )
    }
    assert len(digests) == 1


@pytest.mark.parametrize("order", ["FIXED", "RANDOM", ["site-3", "site-1"]])
def test_client_controlled_cyclic_is_cyclic_bit_for_bit(tmp_path, order):
    """Also its evaluations, and where a site fails in its turn."""
    options = {"order": order, "evaluate": accuracy, "train": moved_unless_bad}
    peers, central = (
        recipe(cls, **options).execute(env(tmp_path)) for cls in (ClientCyclicRecipe, CyclicRecipe)
    )
    assert outcome(peers)[:3] == outcome(central)[:3]
    assert peers.history.failed_sites() == central.history.failed_sites()


def test_aggregators_are_drawn_by_the_seed_and_never_twice_running(tmp_path):
    """The draw of a round; who aggregated the round before comes last in it."""
    run, last = recipe(num_rounds=6).execute(env(tmp_path)), ""
    for record in run.history.rounds:
        draw = SeededRandom(5).once(f"aggregator of round {record.number}").sample(SITES, 4)
        last = next(site for site in draw if site != last)
        assert record.aggregator == last
    assert len({record.aggregator for record in run.history.rounds}) > 1


def test_every_site_keeps_the_last_and_the_best_model(tmp_path):
    """The same bits in every folder, under the names that FedAvg's files have."""
    run = recipe(evaluate=accuracy).execute(env(tmp_path, transport="tcp"))
    for name, model in ((LAST, run.model), (BEST, run.best_model)):
        digests = {read_file(run.folder / site / name).model_digest() for site in SITES}
        assert digests == {model.model_digest()}


@pytest.mark.slow
def test_a_pytorch_model_is_kept_as_pytorch_files(tmp_path):
    """At every site, under ``save_filename``."""
    torch = pytest.importorskip("torch")
    made = recipe(model={"w": torch.from_numpy(first()["w"])}, train=kept, save_filename="net.pt")
    run = made.execute(env(tmp_path, num_clients=2))
    loaded = torch.load(run.folder / "site-2" / "net.pt", weights_only=True)
    np.testing.assert_array_equal(loaded["model"]["w"].numpy(), run.model.numpy()["w"])


def kept(model, site):
    """Return the model as it came."""
    del site
    return model


def test_the_server_offers_and_pulls_no_byte(tmp_path, monkeypatch):
    """What it puts on its shelf is empty, and of what the sites offer it is no reader."""
    offered = []

    class Noted(Shelf):
        def put(self, tensors, **options):
            offer = super().put(tensors, **options)
            offered.append((self.owner, offer.ref.nbytes, offer.readers))
            return offer

    monkeypatch.setattr("flare_async.roles.context.Shelf", Noted)
    recipe().execute(env(tmp_path, transport="tcp"))
    assert {nbytes for owner, nbytes, _ in offered if owner == "server"} == {0}
    models = [readers for owner, nbytes, readers in offered if owner in SITES and nbytes]
    assert len(models) >= 3 * (4 + 1)
    assert not any(readers is None or "server" in readers for readers in models)


def test_a_run_tells_of_rounds_aggregators_and_sites(tmp_path):
    """In its history, in ``swarm.jsonl`` and, where a site failed, as a warning."""
    with capture_logs() as logs:
        run = recipe(train=moved_unless_bad).execute(env(tmp_path))
    rows = [json.loads(line) for line in (run.folder / "swarm.jsonl").read_text().splitlines()]
    assert [row["arrived"] for row in rows[:3]] == [3, 3, 3]
    assert all("site-2" in row["without"] for row in rows[:3])
    assert rows[3] == {"last": 3, "best": rows[3]["best"], "without": {}}
    history = [json.loads(line) for line in (run.folder / "history.jsonl").read_text().splitlines()]
    assert [row["aggregator"] for row in history] == [row["aggregator"] for row in rows[:3]]
    warned = [line for line in logs if line["event"] == "swarm_sites_failed"]
    assert [(line["round"], line["arrived"]) for line in warned] == [(0, 3), (1, 3), (2, 3)]


def test_a_round_without_its_quorum_fails_the_run(tmp_path):
    """It names the site and its error, as FedAvg does."""
    with pytest.raises(RunFailed, match=r"quorum is 4; failed: site-2: .*no data here"):
        recipe(train=moved_unless_bad, min_clients=4).execute(env(tmp_path))


def test_models_are_evaluated_across_sites_as_after_fedavg(tmp_path):
    """The aggregator of the last round has them all."""
    central = recipe(FedAvgRecipe, evaluate=accuracy)
    add_cross_site_evaluation(central)
    swarm = recipe(evaluate=accuracy, do_cross_site_eval=True)
    name = "cross_site_val/cross_val_results.json"
    found = [
        json.loads((made.execute(env(tmp_path)).folder / name).read_text())
        for made in (swarm, central)
    ]
    assert found[0] == found[1]
    assert {*SITES, "SRV_server", "SRV_best_server"} == set(found[0]["site-1"])


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"progress_timeout": 0}, "progress_timeout"),
        ({"progress_timeout": 5, "round_timeout": 5}, "round_timeout"),
        ({"expected_data_kind": "METRICS"}, "expected_data_kind"),
        ({"pipe_type": "shell_pipe"}, "pipe_type"),
        ({"do_cross_site_eval": True}, "evaluate"),
        ({"do_cross_site_eval": True, "evaluate": accuracy, "staging": "repull"}, "staging"),
    ],
)
def test_what_cannot_be_used_is_refused(options, field):
    """At construction, by name."""
    with pytest.raises(ConfigError) as caught:
        recipe(**options)
    assert caught.value.field == field


def test_an_evaluation_at_the_server_is_refused(tmp_path):
    """It has no models; the hint says what to use."""
    made = recipe(evaluate=accuracy)
    add_cross_site_evaluation(made)
    with pytest.raises(ConfigError, match="do_cross_site_eval"):
        made.execute(env(tmp_path))
