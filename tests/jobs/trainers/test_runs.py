"""Whole runs with trainers: the functions that scripts call, over every kind of link."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flare_async import Limits, SimEnv
from flare_async.errors import RunFailed
from flare_async.jobs.trainers.supervisor import family
from flare_async.recipes import FedAvgRecipe
from tests.jobs.trainers.helpers import is_alive, written

FOLDER = Path(__file__).parent
LIMITS = Limits(shutdown_timeout=0.5)
ENVIRON = {**os.environ, "PYTHONPATH": str(FOLDER.parents[2])}


def recipe_of(script, args="", **options):
    """Return two rounds of FedAvg over a script in processes."""
    return FedAvgRecipe(
        name="trainers",
        model=options.pop("model", {"w": np.zeros(4, np.float32)}),
        num_rounds=2,
        min_clients=options.pop("min_clients", 2),
        train_script=str(FOLDER / script),
        train_args=options.pop("train_args", args),
        **{"launch_external_process": True} | options,
    )


@pytest.mark.parametrize("transport", ["memory", "tcp"])
def test_a_run_gives_the_same_over_every_link(tmp_path, transport):
    """Over a byte transport nothing of the model is held by the client."""
    env = SimEnv(num_clients=2, transport=transport, workspace_root=tmp_path, limits=LIMITS)
    run = recipe_of("flare_script.py", "3").execute(env)
    assert run.model.numpy()["w"].tolist() == [6.0] * 4
    assert [point.metrics["accuracy"] for point in run.history.rounds] == [0.5, 0.5]


def test_differences_travel_where_they_are_asked_for(tmp_path):
    """They are made in the trainer, and give the same model."""
    env = SimEnv(num_clients=2, transport="tcp", workspace_root=tmp_path, limits=LIMITS)
    run = recipe_of("flare_script.py", "3", params_transfer_type="DIFF").execute(env)
    assert run.model.numpy()["w"].tolist() == [6.0] * 4


def test_a_failed_script_fails_the_run_with_its_reason(tmp_path):
    """What it printed last is in the error of the run."""
    env = SimEnv(num_clients=1, workspace_root=tmp_path, limits=LIMITS)
    with pytest.raises(RunFailed) as caught:
        recipe_of("flare_script.py", "nonsense", min_clients=1).execute(env)
    assert "trainer_exit" in str(caught.value)


def test_an_aborted_run_leaves_no_trainer(tmp_path):
    """Also one that ignores SIGTERM, and aborting twice is harmless."""
    env = SimEnv(num_clients=1, workspace_root=tmp_path, limits=LIMITS)
    recipe = recipe_of("script.py", f"stubborn {tmp_path / 'pid'}", min_clients=1)

    async def main():
        async with recipe.start(env) as run:
            pid = int(await written(tmp_path / "pid"))
            run.abort()
            run.abort()
        return pid, str(run.status)

    pid, status = asyncio.run(main())
    assert status == "aborted"
    assert not is_alive(pid)


def test_trainers_that_die_once_their_result_was_taken_lose_nothing(tmp_path):
    """F28 cannot happen: the client serves the result out of a file, round after round."""
    env = SimEnv(num_clients=2, transport="tcp", workspace_root=tmp_path, limits=LIMITS)
    model = {"w": np.zeros(1_000_000, np.float32)}
    run = recipe_of("script.py", "dies-later", model=model).execute(env)
    assert (run.model.numpy()["w"] == 2).all()
    assert [record.arrived for record in run.history.rounds] == [2, 2]


def test_aborting_while_a_result_travels_leaves_nothing(tmp_path):
    """F29: the script is through with its task, the server pulls; aborting later is harmless."""
    env = SimEnv(num_clients=1, transport="tcp", workspace_root=tmp_path, limits=LIMITS)
    model = {"w": np.zeros(8_000_000, np.float32)}
    recipe = recipe_of("script.py", f"sent {tmp_path / 'pid'}", min_clients=1, model=model)

    async def main():
        async with recipe.start(env) as run:
            pid = int(await written(tmp_path / "pid"))
            run.abort()
        run.abort()
        return pid, str(run.status)

    pid, status = asyncio.run(main())
    assert status == "aborted"
    assert not is_alive(pid)


@pytest.mark.parametrize("external", [True, False])
def test_a_host_application_may_cancel_a_run(tmp_path, external):
    """F43: the cancellation passes, and no process or thread of the script stays."""
    env = SimEnv(num_clients=2, workspace_root=tmp_path, limits=LIMITS)
    where = {"launch_external_process": external, "train_args": str(tmp_path / "pid")}
    recipe = recipe_of("sleeping_script.py", **where)

    async def main():
        run = asyncio.ensure_future(recipe.run(env))
        found = await written(tmp_path / "pid")
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        return int(found.split()[0])

    pid = asyncio.run(main())
    assert not external or not is_alive(pid)


@pytest.mark.parametrize("external", [True, False])
def test_a_program_whose_run_failed_exits_with_1(tmp_path, external):
    """So that whoever started it knows; the reason is on standard error, the code in the file."""
    job = [sys.executable, str(FOLDER / "job.py"), str(tmp_path), str(external)]
    done = subprocess.run(
        [*job, "exit"], check=False, capture_output=True, text=True, timeout=30, env=ENVIRON
    )
    assert done.returncode == 1
    assert "exited with status 3" in done.stderr
    (row,) = [path.read_text() for path in tmp_path.rglob("history.jsonl")]
    assert json.loads(row)["sites"][0]["code"] == "trainer_exit"


@pytest.mark.parametrize("external", [True, False])
def test_an_interrupted_program_leaves_nothing(tmp_path, external):
    """F43: Ctrl-C reaches the program only; its trainers have sessions of their own."""
    words = [sys.executable, str(FOLDER / "job.py"), str(tmp_path), str(external), "sleep"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=ENVIRON) as job:
        asyncio.run(written(tmp_path / "pid", 20.0))
        below = set(family(job.pid)) - {job.pid}
        job.send_signal(signal.SIGINT)
        errors = job.communicate(timeout=15)[1]
    assert job.returncode in {-signal.SIGINT, 130}
    assert "KeyboardInterrupt" in errors
    assert "was destroyed" not in errors
    assert not any(map(is_alive, below))
    assert len(below) >= 2 * external


@pytest.mark.sweep
@pytest.mark.slow
def test_torchrun_starts_two_ranks(tmp_path, capfd):
    """Rank 0 exchanges models; both see every round and the end."""
    env = SimEnv(num_clients=1, workspace_root=tmp_path, limits=LIMITS)
    run = recipe_of(
        "ranks_script.py",
        min_clients=1,
        framework="pytorch",
        command="torchrun --standalone --nproc_per_node=2",
    ).execute(env)
    assert run.model.numpy()["w"].tolist() == [6.0] * 4
    shown = capfd.readouterr().out
    assert "rank 0 ends" in shown
    assert "rank 1 ends" in shown
