"""The command line as a process of its own: its time to start, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SLEEPER = """
import time
import numpy as np
from flare_async import FLModel
from flare_async.recipes import FedAvgRecipe

def train(model, site):
    if site.round_number:
        time.sleep(60)
    return FLModel(params=model.params)

recipe = FedAvgRecipe(
    name="sleeper", model={"w": np.zeros(4, np.float32)}, train=train, min_clients=2, num_rounds=2
)
"""
HEAVY = ("numpy", "torch", "sklearn", "aiohttp", "matplotlib", "rich.live", "anyio", "asyncio")


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the command line in ``folder``, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "flare_async.sim", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_help_imports_nothing_heavy() -> None:
    """It answers at once because there is little to load."""
    code = (
        "import sys; from flare_async.sim.cli import run_command_line;"
        f"run_command_line(['--help']); print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["inline", "thread", "process"])
@pytest.mark.parametrize("count", [1, 2])
def test_ctrl_c_ends_a_sleeping_training(tmp_path: Path, workers: str, count: int) -> None:
    """Exit 130 long before the minute is over; the folder is named and no child is left."""
    (tmp_path / "job.py").write_text(SLEEPER, encoding="utf-8")
    process = start(tmp_path, "job.py", "--clients", "2", "--workers", workers)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("model 0") or line.startswith("round 0"):
            break
    for _ in range(count):
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert str(tmp_path / "flare-runs" / "sleeper-1") in err
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.slow
def test_the_main_job_is_reproducible_and_compared(tmp_path: Path) -> None:
    """Two runs of two rounds over different transports and workers have the same digest."""
    pytest.importorskip("sklearn")
    pytest.importorskip("torch")
    digests = set()
    for way in (("--workers", "inline"), ("--workers", "thread", "--transport", "unix")):
        process = start(tmp_path, "--json", "--quiet", "--rounds", "2", "--clients", "4", *way)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        data = json.loads(out)["data"]
        digests.add(data["model_digest"])
        assert data["single_site_accuracy"] < data["pooled_accuracy"]
        assert 0.4 < data["test_accuracy"] < 1.0
    assert len(digests) == 1
    folder = tmp_path / "flare-runs" / "digits-1"
    for name in ("best_FL_global_model.safetensors", "report.html", "learning_curve.png"):
        assert (folder / name).stat().st_size > 1000
