"""Runs inside an application: its loop, its threads, its signals and its logging stay its own."""

from __future__ import annotations

import asyncio
import threading

import pytest

from flare_async import SimEnv
from flare_async.errors import ConfigError, RunFailed
from flare_async.jobs.work import JOB_MODULE
from tests.sim import jobs_small
from tests.sim.jobs_small import recipe_of, run_of
from tests.sim.process_state import configured, held

WAYS = [
    ("memory", "inline"),
    ("memory", "thread"),
    ("tcp", "thread"),
    ("unix", "inline"),
    ("unix", "process"),
]


def env_of(root, transport="memory", workers="inline"):
    """Return an environment of four sites."""
    return SimEnv(num_clients=4, seed=7, workers=workers, transport=transport, workspace_root=root)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Give the process a temporary folder of its own; return a folder for runs."""
    import tempfile

    (tmp_path / "t").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    return tmp_path / "runs"


@pytest.mark.parametrize(("transport", "workers"), WAYS[:-1])
def test_execute_leaves_the_process_as_it_was(temporary, transport, workers):
    """No descriptor, child, thread or temporary folder; no signal, logging or policy changed."""
    run_of(recipe_of(num_rounds=1), temporary, transport=transport, workers=workers)
    before = held(), configured()
    run = recipe_of().execute(env_of(temporary, transport, workers))
    assert run.status == "completed"
    assert (held(), configured()) == before


@pytest.mark.parametrize(("transport", "workers"), WAYS)
def test_a_run_inside_a_loop_leaves_the_process_as_it_was(temporary, transport, workers):
    """The application's loop is asyncio's own here; its tasks are left alone."""
    env = env_of(temporary, transport, workers)

    async def main():
        await recipe_of(num_rounds=1).run(env)
        before, tasks = (held(), configured()), asyncio.all_tasks()
        run = await recipe_of().run(env)
        await asyncio.sleep(0)
        return before, (held(), configured()), asyncio.all_tasks() == tasks, run.status

    before, after, same_tasks, status = asyncio.run(main())
    assert after == before
    assert (same_tasks, status) == (True, "completed")


def test_a_failed_run_leaves_the_process_as_it_was(temporary):
    """The run raises, and nothing else is different."""
    recipe = recipe_of(jobs_small.failing, train_config={"fails": ["site-1"]})
    run_of(recipe, temporary, transport="unix", workers="thread")
    before = held(), configured()
    with pytest.raises(RunFailed, match="no data at site-1"):
        recipe.execute(env_of(temporary, "unix", "thread"))
    assert (held(), configured()) == before


def test_the_application_goes_on_while_a_run_trains(tmp_path):
    """Both share the loop; the run's rounds give way."""
    turns = []

    async def application(stop):
        while not stop.is_set():
            turns.append(len(turns))
            await asyncio.sleep(0)

    async def main():
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(application(stop))
            run = await recipe_of(num_rounds=3).run(env_of(tmp_path))
            stop.set()
        return run

    assert asyncio.run(main()).status == "completed"
    assert len(turns) > 12


def test_two_runs_share_a_loop(tmp_path):
    """Each has its own folder, and the bits that it has alone."""

    async def main():
        async with asyncio.TaskGroup() as tasks:
            runs = [
                tasks.create_task(recipe_of().run(env_of(tmp_path, transport)))
                for transport in ("memory", "memory", "tcp")
            ]
        return [task.result() for task in runs]

    runs = asyncio.run(main())
    alone = run_of(recipe_of(), tmp_path).model.model_digest()
    assert {run.model.model_digest() for run in runs} == {alone}
    assert len({run.folder for run in runs}) == 3


def test_execute_works_where_a_loop_is_running(tmp_path):
    """As in a notebook's cell: the caller blocks, the loop is another one."""

    async def cell():
        return recipe_of().execute(env_of(tmp_path)), asyncio.get_running_loop().is_running()

    run, running = asyncio.run(cell())
    assert (run.status, running) == ("completed", True)


def test_execute_works_in_another_thread(tmp_path):
    """A web application's worker, for instance."""
    found = []
    target = lambda: found.append(recipe_of().execute(env_of(tmp_path)))  # noqa: E731
    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    assert [run.status for run in found] == ["completed"]


def test_a_failure_reaches_the_caller_from_the_other_thread(tmp_path):
    """The same error as without a loop."""
    recipe = recipe_of(jobs_small.failing, train_config={"fails": ["site-1"]})

    async def cell():
        recipe.execute(env_of(tmp_path))

    with pytest.raises(RunFailed, match="no data at site-1"):
        asyncio.run(cell())


def test_a_job_file_that_runs_itself_in_a_worker_is_told_what_to_write(tmp_path, monkeypatch):
    """Otherwise every worker would start a run of its own."""
    monkeypatch.setitem(__import__("sys").modules, JOB_MODULE, object())
    with pytest.raises(ConfigError, match="__main__"):
        recipe_of().execute(env_of(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_block_gives_the_run_while_it_goes_on(tmp_path):
    """Status, folder and history can be looked at; leaving the block waits for the end."""

    async def main():
        async with recipe_of().start(env_of(tmp_path)) as run:
            early = (str(run.status), run.folder.is_dir(), len(run.history.rounds))
        return early, run

    early, run = asyncio.run(main())
    assert early == ("running", True, 0)
    assert (run.get_status(), len(run.history.rounds)) == ("completed", 2)
    assert run.get_result() == run.folder
