"""The examples run as they stand: their output and what they leave are checked."""

from __future__ import annotations

import asyncio
import runpy
from pathlib import Path

import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
RUNS = {"model_exchange", "numpy_fedavg", "own_recipe", "torch_fedavg"}


def load(name):
    """Return the names of one example, without running it."""
    return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name=name)


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """Keep what an example writes in a folder of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_every_example_is_tested():
    """An example that nobody runs is out of date soon."""
    assert {path.stem for path in EXAMPLES.glob("*.py")} == RUNS | {"async_app"}


def test_the_numpy_example_learns(capsys):
    """Four sites together classify their points."""
    run = load("numpy_fedavg")["main"]()
    assert run.history.best().metrics["accuracy"] > 0.9
    assert "numpy-fedavg-1 (numpy-fedavg): completed" in capsys.readouterr().out


@pytest.mark.sweep
@pytest.mark.slow
def test_the_torch_example_learns_and_leaves_both_kinds_of_file(capsys):
    """A PyTorch model is kept as safetensors and as a PyTorch file."""
    pytest.importorskip("torch")
    run = load("torch_fedavg")["main"]()
    assert run.history.best().metrics["accuracy"] > 0.8
    kept = {path.name for path in run.folder.iterdir()}
    assert {"FL_global_model.safetensors", "FL_global_model.pt"} <= kept
    assert "completed" in capsys.readouterr().out


def test_a_model_is_exchanged_and_only_what_changed_is_sent_again(capsys):
    """The second version is 400 bytes on its way into memory, and whole into a file."""
    found = load("model_exchange")["main"]()
    assert (found.nbytes, dict(found.aliases)) == (1_000_400, {"tied": "body"})
    said = capsys.readouterr().out
    assert "served: {'reader': 1000400}\nserved: {'reader': 1000800}" in said
    assert "received: 1000400 bytes, and a file of 10006" in said


def test_the_median_is_not_moved_by_a_broken_site(capsys):
    """The mean of these updates would be near 200,000."""
    run = load("own_recipe")["main"]()
    assert np.allclose(run.model.numpy()["weights"], 1.0, atol=0.2)
    assert len(run.history.rounds) == 10
    assert "median-1 (median): completed" in capsys.readouterr().out


def test_the_application_answers_while_it_trains_and_ends_its_run():
    """One request is answered during the run; closing the application aborts it."""
    example = load("async_app")

    async def main():
        app = example["application"]()
        async with TestClient(TestServer(app)) as client:
            answer = await client.get("/status")
            said = await answer.json()
        return said, app[example["RUN"]]

    said, run = asyncio.run(main())
    assert said["status"] == "running"
    assert said["of"] == example["ROUNDS"]
    assert said["failed_sites"] == {}
    assert run.get_status() == "aborted"
    assert (run.folder / "run.json").is_file()
