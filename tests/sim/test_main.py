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
        if line.startswith(("model 0", "round 0")):
            break
    for _ in range(count):
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "Traceback" not in err
    folder = tmp_path / "flare-runs" / "sleeper-1"
    assert str(folder) in err
    if count == 1:
        assert json.loads((folder / "run.json").read_text("utf-8"))["status"] == "aborted"
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


PRINTER = """
import os, sys
from flare_async.sim.stdout import only_results

with only_results() as results:
    print("from Python")
    os.write(1, b"from a library\\n")
    os.system("echo from a child")
    results.write("the result\\n")
print("afterwards")
"""


def test_standard_output_carries_results_only() -> None:
    """What Python, a library or a child writes there goes to standard error."""
    done = subprocess.run(
        [sys.executable, "-c", PRINTER], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "the result\nafterwards\n"
    said = {"from Python", "from a library", "from a child"}
    assert set(done.stderr.splitlines()) == said
