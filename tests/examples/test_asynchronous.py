"""The examples without rounds, of robust means, of cyclic transfer and of evaluation."""

from __future__ import annotations

import json

import pytest

from tests.examples.play import EXTERNAL, ROOT, Expected, check, play

NAMES = {
    "hello-cyclic",
    "hello-fedbuff",
    "hello-fedeval",
    "hello-numpy-cross-val",
    "robust-means",
}
pytestmark = [pytest.mark.example, pytest.mark.timeout(60), pytest.mark.slow]


@pytest.mark.parametrize("name", sorted(NAMES))
def test_an_example_has_what_its_reader_needs(name):
    """A page, the job, and what its sites do."""
    there = {path.name for path in (ROOT / "examples" / name).iterdir()}
    assert {"README.md", "job.py"} < there
    assert there & {"client.py", "sites.py"}


@pytest.mark.parametrize("algorithm", ["fedbuff", "async_fedavg"])
def test_a_model_is_learnt_without_rounds_and_a_replay_has_its_bits(tmp_path, algorithm):
    """One site is slower than the others."""
    options = ("--algorithm", algorithm, "--num_rounds", "12")
    first = play("hello-fedbuff", tmp_path / "first", *options)
    accuracy = float(first.said.partition("'accuracy': ")[2].partition("}")[0].partition(",")[0])
    assert accuracy > 0.7
    folder = str(tmp_path / "first" / "hello-fedbuff-1")
    again = play("hello-fedbuff", tmp_path / "again", *options, "--replay", folder)
    for name, array in first.model.items():
        assert again.model[name].tobytes() == array.tobytes()


@pytest.mark.parametrize(("aggregator", "low", "high"), [("krum", 0, 0.7), ("mean", 10, 1e30)])
def test_a_rule_learns_where_the_mean_is_lost(tmp_path, aggregator, low, high):
    """Two of eight sites send nonsense."""
    played = play("robust-means", tmp_path / "run", "--aggregator", aggregator)
    found = [site["metrics"] for row in played.rounds for site in row["sites"]]
    assert found
    error = float(played.said.partition("'mse': ")[2].partition("}")[0])
    assert low < error < high


def test_cyclic_transfer_learns_the_same_in_threads_and_in_processes(tmp_path):
    """Every site has its turn in every round."""
    check("hello-cyclic", tmp_path, Expected("accuracy", 0.8))


@pytest.mark.parametrize("options", [(), (EXTERNAL,)])
def test_a_model_is_evaluated_at_every_site(tmp_path, options):
    """Nobody trains it."""
    played = play("hello-fedeval", tmp_path / "run", *options)
    [row] = played.rounds
    assert [site["metrics"]["accuracy"] > 0.8 for site in row["sites"]] == [True] * 3


@pytest.mark.parametrize(("mode", "options"), [("training", (EXTERNAL,)), ("pretrained", ())])
def test_every_model_is_evaluated_at_every_site(tmp_path, mode, options):
    """Of the sites and of the server."""
    play("hello-numpy-cross-val", tmp_path / "run", "--mode", mode, *options)
    results = tmp_path / "run" / "hello-numpy-cross-val-1" / "cross_site_val"
    found = json.loads((results / "cross_val_results.json").read_text("utf-8"))
    servers = {"SRV_server", "SRV_best_server"} if mode == "training" else {"SRV_pretrained"}
    assert {site: set(models) for site, models in found.items()} == {
        site: {"site-1", "site-2", *servers} for site in ("site-1", "site-2")
    }
