"""A worker process that dies, whenever that is, costs at most one retried task and no bit."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import numpy as np
import pytest

from flare_async.jobs.jobfile import load_job_file
from flare_async.jobs.site import SiteInfo
from flare_async.jobs.spawners import ProcessSpawner
from flare_async.jobs.training import TrainTask
from flare_async.jobs.work import JOB_MODULE, Work
from flare_async.transfer.tensors import TensorSet
from tests.jobs import dying_code

MODEL = TensorSet.from_params({"w": np.arange(4, dtype=np.float32), "n": np.array(3)})
AFTER = TensorSet.from_params({"w": np.arange(1, 5, dtype=np.float32), "n": np.array(4)})

pytestmark = [pytest.mark.slow, pytest.mark.asyncio]


def task_of(train, **config):
    site = SiteInfo(name="site-1", index=0, seed=7, round_number=0, config=config)
    return TrainTask(Work(train, "numpy"), MODEL, site)


async def killed(pid):
    """Kill a process and wait until its parent can know."""
    os.kill(pid, signal.SIGKILL)
    end, gone = os.pidfd_open(pid), asyncio.Event()
    asyncio.get_running_loop().add_reader(end, gone.set)
    await gone.wait()
    asyncio.get_running_loop().remove_reader(end)
    os.close(end)


@pytest.mark.parametrize(
    "stage", ["in its task", "while it writes its update", "while it sends its answer"]
)
async def test_a_worker_that_dies_at_work_costs_one_retried_task(tmp_path, stage):
    """Half an update or half an answer of the dead one is nothing."""
    task = task_of(dying_code.train, mark=str(tmp_path / "mark"), stage=stage)
    async with ProcessSpawner(1) as spawner:
        outcomes = [await spawner.run(task) for _ in range(2)]
        assert spawner.retried == 1
    assert {one.tensors.model_digest() for one in outcomes} == {AFTER.model_digest()}


async def test_a_worker_that_dies_while_it_loads_the_file_costs_one_retried_task(
    tmp_path, monkeypatch
):
    """The next one loads it again."""
    monkeypatch.setitem(sys.modules, JOB_MODULE, None)  # loaded here too, and undone at the end
    del sys.modules[JOB_MODULE]
    mark, job = tmp_path / "mark", tmp_path / "job.py"
    job.write_text(
        f"import sys\nfrom pathlib import Path\nfrom tests.jobs.dying_code import die\n"
        f"if sys.argv[0].endswith('worker.py') and not Path({str(mark)!r}).exists():\n"
        f"    Path({str(mark)!r}).touch()\n    die()\n"
        "from flare_async import FLModel\n"
        "def train(model, site):\n"
        "    return FLModel(params={name: value + 1 for name, value in model.params.items()})\n"
    )
    async with ProcessSpawner(1) as spawner:
        outcome = await spawner.run(task_of(load_job_file(job).train))
        assert (spawner.retried, mark.exists()) == (1, True)
    assert outcome.tensors.model_digest() == AFTER.model_digest()


async def test_a_worker_that_dies_idle_costs_nothing(tmp_path):
    """The next task starts another one, and may still be tried again."""
    mark = tmp_path / "mark"
    task = task_of(dying_code.train, mark=str(mark), stage="in its task")
    mark.touch()
    async with ProcessSpawner(1) as spawner:
        await spawner.run(task)
        await killed(spawner.pids[0])
        await asyncio.sleep(0.1)  # the loop hears of it on its own
        mark.unlink()
        outcome = await spawner.run(task)
        assert spawner.retried == 1  # of the death at work
    assert outcome.tensors.model_digest() == AFTER.model_digest()
