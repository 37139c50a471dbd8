"""The end of a run by its caller: at any time, twice, too late, from anywhere; nothing is left."""

from __future__ import annotations

import asyncio
import json
import os
import threading

import anyio
import numpy as np
import pytest

from flare_async import SimEnv
from flare_async.errors import RunAborted
from flare_async.jobs.events import RoundFinished, RoundStarted, SiteStarted
from flare_async.recipes import FedAvgRecipe
from tests.sim import jobs_small
from tests.sim.jobs_small import recipe_of, run_of
from tests.sim.process_state import held

LIMIT = 10  # seconds, for what takes milliseconds: a hang fails here and not at the suite's bound


def env_of(root, **options):
    """Return an environment of four sites."""
    settings = {"num_clients": 4, "seed": 7, "workers": "inline", "workspace_root": root}
    return SimEnv(**{**settings, **options})


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Give the process a temporary folder of its own; return a folder for runs."""
    import tempfile

    (tmp_path / "t").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    run_of(recipe_of(num_rounds=1), tmp_path / "runs", transport="unix")
    return tmp_path / "runs"


class Stuck:
    """A train function that holds its thread until it is let go."""

    def __init__(self):
        self.entered, self.leave, self.threads = threading.Event(), threading.Event(), []

    def __call__(self, model, site):
        """Train at last."""
        self.threads.append(threading.current_thread())
        self.entered.set()
        self.leave.wait()
        return jobs_small.numpy_train(model, site)

    def end(self):
        """Let all threads go and wait for them."""
        self.leave.set()
        for thread in self.threads:
            thread.join()


class Waits:
    """An async train function that waits for ever, in the given round.

    ``entered`` is set when as many sites as ``sites`` are in it.
    """

    def __init__(self, number=0, sites=1):
        self.number, self.cancelled = number, []
        self.entered = asyncio.Event()
        self._outside = sites

    async def __call__(self, model, site):
        """Train at once in all other rounds."""
        if site.round_number == self.number:
            self._outside -= 1
            if self._outside <= 0:
                self.entered.set()
            try:
                await anyio.sleep_forever()
            except asyncio.CancelledError:
                self.cancelled.append(site.name)
                raise
        return jobs_small.numpy_train(model, site)


async def aborted(recipe, env, entered, times=1):
    """Start a run, abort it once it has entered, and return it at its end."""
    async with asyncio.timeout(LIMIT):
        async with recipe.start(env) as run:
            await entered()
            for _ in range(times):
                run.abort()
        return run


@pytest.mark.parametrize("times", [1, 2, 5])
@pytest.mark.parametrize("transport", ["memory", "tcp", "unix"])
def test_abort_ends_async_training(temporary, transport, times):
    """Every coroutine is cancelled; aborting again changes nothing."""

    async def main():
        train = Waits()
        env = env_of(temporary, transport=transport, num_threads=4)
        run = await aborted(recipe_of(train), env, train.entered.wait, times)
        return run, train.cancelled

    before = held()
    run, cancelled = asyncio.run(main())
    assert (run.status, run.cause, len(cancelled)) == ("aborted", None, 4)
    assert json.loads((run.folder / "run.json").read_text())["status"] == "aborted"
    assert held() == before


def test_abort_abandons_training_in_a_thread(temporary):
    """The run ends at once, the thread when user code returns; its result is nobody's."""
    train = Stuck()

    async def main():
        entered = asyncio.to_thread(train.entered.wait, LIMIT)
        env = env_of(temporary, workers="thread", num_threads=2)
        return await aborted(recipe_of(train), env, lambda: entered)

    before = held()
    run = asyncio.run(main())
    assert (run.status, run.history.rounds) == ("aborted", [])
    assert all(thread.daemon for thread in train.threads)
    train.end()
    assert held() == before
    assert run.model.model_digest() == recipe_of().initial.model_digest()


def test_abort_kills_training_in_a_process(temporary, tmp_path):
    """No child is left, though the function would sleep for a minute."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    options = {"min_clients": 1, "train_config": {"pipe": str(pipe)}}
    recipe = recipe_of(jobs_small.sleeping, **options)
    found = []

    async def main():
        env = env_of(temporary, workers="process", num_threads=1, num_clients=1)
        return await aborted(recipe, env, lambda: asyncio.to_thread(read))

    def read():
        found.append(int(pipe.read_text()))

    before = held()
    run = asyncio.run(main())
    assert run.status == "aborted"
    assert held() == before
    with pytest.raises(ProcessLookupError):
        os.kill(found[0], 0)


@pytest.mark.parametrize("transport", ["memory", "tcp", "unix"])
@pytest.mark.parametrize("moment", [RoundStarted, SiteStarted, RoundFinished])
def test_abort_at_any_moment_of_a_round(temporary, transport, moment):
    """At its begin, while the model is on its way to the sites, at its end."""
    model = {"w": np.zeros(1 << 20, np.float32)}
    runs = []

    def observe(event):
        if isinstance(event, moment) and runs:
            runs[0].abort()

    async def main():
        env = env_of(temporary, transport=transport, observer=observe)
        recipe = recipe_of(lambda model, site: model, model=model, num_rounds=50)
        async with asyncio.timeout(LIMIT), recipe.start(env) as run:
            runs.append(run)

    before = held()
    asyncio.run(main())
    assert runs[0].status == "aborted"
    assert len(runs[0].history.rounds) <= 1
    assert held() == before


def test_abort_before_the_run_has_begun(temporary):
    """Nothing is trained; the folder says so."""

    async def main():
        async with recipe_of().start(env_of(temporary)) as run:
            run.abort()
        return run

    run = asyncio.run(main())
    assert (run.status, run.history.rounds) == ("aborted", [])
    assert json.loads((run.folder / "run.json").read_text())["status"] == "aborted"


def test_abort_after_the_end_changes_nothing(temporary):
    """The loop is closed by then, the status final."""
    run = run_of(recipe_of(), temporary)
    run.abort()
    run.abort()
    assert (run.status, run.get_result()) == ("completed", run.folder)


def test_abort_from_another_thread(temporary):
    """As a signal handler or a web request would."""

    async def main():
        train = Waits(number=1)
        async with asyncio.timeout(LIMIT), recipe_of(train).start(env_of(temporary)) as run:
            await train.entered.wait()
            await asyncio.to_thread(run.abort)
        return run

    run = asyncio.run(main())
    assert (run.status, len(run.history.rounds)) == ("aborted", 1)


class Quits(FedAvgRecipe):
    """A recipe that aborts its own run."""

    async def coordinate(self, cohort):
        """Wait for the end."""
        cohort.run.abort()
        await anyio.sleep_forever()


def test_execute_raises_what_an_aborted_run_is(temporary):
    """Unless it is told not to check."""
    recipe = Quits(train=jobs_small.numpy_train, model=jobs_small.numpy_model(), min_clients=1)
    with pytest.raises(RunAborted, match=str(temporary)):
        recipe.execute(env_of(temporary))
    run = recipe.execute(env_of(temporary), check=False)
    assert (run.status, run.cause) == ("aborted", None)
    with pytest.raises(RunAborted):
        run.get_result()


@pytest.mark.parametrize(
    ("transport", "workers"), [("memory", "inline"), ("tcp", "thread"), ("unix", "inline")]
)
def test_cancelling_the_caller_aborts_and_leaves_nothing(temporary, transport, workers):
    """No task, no descriptor, no thread, no temporary folder; the folder of the run is whole."""

    async def main():
        train = Waits(number=1, sites=4)
        env = env_of(temporary, transport=transport, workers=workers, num_threads=4)
        recipe = recipe_of(train, name="cancelled")
        async with asyncio.timeout(LIMIT):
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(recipe.run(env))
                await train.entered.wait()
                task.cancel()
            await asyncio.sleep(0)
        return task.cancelled(), len(asyncio.all_tasks()), len(train.cancelled)

    before = held()
    assert asyncio.run(main()) == (True, 1, 4)
    document = json.loads((temporary / "cancelled-1" / "run.json").read_text())
    assert (document["status"], document["rounds"]) == ("aborted", 1)
    assert held() == before


def test_cancelling_the_caller_kills_the_worker_process(temporary, tmp_path):
    """As an abort does."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    options = {"min_clients": 1, "train_config": {"pipe": str(pipe)}}
    recipe = recipe_of(jobs_small.sleeping, **options)

    async def main():
        env = env_of(temporary, workers="process", num_threads=1, num_clients=1)
        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as tasks:
            task = tasks.create_task(recipe.run(env))
            await asyncio.to_thread(pipe.read_text)
            task.cancel()

    before = held()
    asyncio.run(main())
    assert held() == before
