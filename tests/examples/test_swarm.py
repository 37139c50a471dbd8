"""The swarm example, as its reader starts it."""

from __future__ import annotations

import json

import pytest

from tests.examples.play import ROOT, Expected, check, play

SWARM = Expected("accuracy", 0.5, options=("--n_clients", "2"))
pytestmark = [pytest.mark.example, pytest.mark.timeout(120), pytest.mark.slow]


def test_an_example_has_what_its_reader_needs():
    """A page, the job, the model and the script."""
    there = {path.name for path in (ROOT / "examples" / "swarm").iterdir()}
    assert {"README.md", "job.py", "client.py", "model.py"} <= there


def test_a_swarm_learns_the_same_in_threads_and_in_processes(tmp_path):
    """Every site contributes to every round."""
    check("swarm", tmp_path, SWARM)


def test_a_swarm_below_relays_shows_every_model_to_every_site(tmp_path):
    """Over sockets, with the evaluation across sites."""
    options = ("--n_clients", "4", "--num_rounds", "2", "--transport", "tcp", "--relays", "2")
    play("swarm", tmp_path / "run", *options, "--cross_site_eval")
    path = tmp_path / "run" / "swarm-1" / "cross_site_val" / "cross_val_results.json"
    shown = json.loads(path.read_text("utf-8"))
    sites = {f"site-{number}" for number in range(1, 5)}
    assert set(shown) == sites
    assert all(sites < set(models) for models in shown.values())
