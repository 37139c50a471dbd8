"""Whole runs with trainers: the functions that scripts call, over every kind of link."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from flare_async import Limits, SimEnv
from flare_async.errors import RunFailed
from flare_async.recipes import FedAvgRecipe
from tests.jobs.trainers.helpers import is_alive, written

FOLDER = Path(__file__).parent
LIMITS = Limits(shutdown_timeout=1.0)


def recipe_of(script, args="", **options):
    """Return two rounds of FedAvg over a script in processes."""
    return FedAvgRecipe(
        name="trainers",
        model=options.pop("model", {"w": np.zeros(4, np.float32)}),
        num_rounds=2,
        min_clients=options.pop("min_clients", 2),
        train_script=str(FOLDER / script),
        train_args=args,
        launch_external_process=True,
        **options,
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
