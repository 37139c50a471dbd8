"""Runs one example as its reader would, and checks what it leaves in its run folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flare_async.transfer.files import read_file

ROOT = Path(__file__).resolve().parents[2]
EXTERNAL = "--launch_external_process"


@dataclass(frozen=True)
class Expected:
    """How large an example is played, and what its metric must reach."""

    metric: str
    floor: float
    rounds: int = 3
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Played:
    """What a job has printed, its rounds, and its last model."""

    said: str
    rounds: list[dict]
    model: dict[str, np.ndarray]


def play(name: str, workspace: Path, *options: str) -> Played:
    """Run an example's job file in a process of its own, from a folder of nobody."""
    job = ROOT / "examples" / name / "job.py"
    line = [sys.executable, str(job), "--workspace", str(workspace), *options]
    workspace.mkdir(parents=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}
    ended = subprocess.run(
        line, cwd=workspace, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-6000:]
    folder = workspace / f"{name}-1"
    assert f"results: {folder}" in ended.stdout
    rows = (folder / "history.jsonl").read_text("utf-8").splitlines()
    model = read_file(folder / "FL_global_model.safetensors").numpy()
    return Played(ended.stdout, [json.loads(row) for row in rows], dict(model))


def check(name: str, folder: Path, expected: Expected) -> None:
    """Play an example in both modes and compare them."""
    options = ["--num_rounds", str(expected.rounds), *expected.options]
    threads = play(name, folder / "threads", *options)
    processes = play(name, folder / "processes", *options, EXTERNAL)
    for played in (threads, processes):
        check_rounds(played, expected)
    assert threads.model.keys() == processes.model.keys()
    for key, array in threads.model.items():
        np.testing.assert_allclose(processes.model[key], array, rtol=0, atol=1e-5, err_msg=key)


def check_rounds(played: Played, expected: Expected) -> None:
    """Every site gave its part to every round, and the model became better."""
    assert len(played.rounds) == expected.rounds
    for row in played.rounds:
        assert {site["site"]: site["status"] for site in row["sites"]} == {
            "site-1": "ok",
            "site-2": "ok",
        }
    first, last = (played.rounds[at]["metrics"][expected.metric] for at in (0, -1))
    assert last > first
    assert last >= expected.floor
    assert f"'{expected.metric}'" in played.said
