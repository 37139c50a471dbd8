"""The three places where user code runs, held to one contract."""

from __future__ import annotations

import asyncio
import functools
import os
import select
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import anyio
import numpy as np
import pytest
import uvloop

from flare_async.errors import ConfigError, LocalProtocolError, TrainingFailed
from flare_async.jobs.site import SiteInfo
from flare_async.jobs.spawners import InlineSpawner, ProcessSpawner, ThreadSpawner
from flare_async.jobs.spawners.slots import Slots
from flare_async.jobs.training import TrainTask
from flare_async.jobs.work import Work
from flare_async.model import FLModel, ParamsType
from flare_async.transfer.tensors import TensorSet
from tests.jobs import user_code

MODEL = TensorSet.from_params({"w": np.arange(4, dtype=np.float32), "n": np.array(3)})
LARGE = TensorSet.from_params({"w": np.ones(400_000, np.float32), "n": np.array(3)})


def task_of(train, index=0, *, round_number=0, tensors=MODEL, framework="numpy", **config):
    site = SiteInfo(
        name=f"site-{index + 1}", index=index, seed=7, round_number=round_number, config=config
    )
    return TrainTask(Work(train, framework), tensors, site)


def torch_task():
    torch = pytest.importorskip("torch")
    torch.manual_seed(3)
    tensors = TensorSet.from_params(torch.nn.Linear(8, 3).state_dict())
    return task_of(user_code.torch_step, 1, tensors=tensors, framework="torch")


async def digest_of(spawner, task):
    outcome = await spawner.run(task)
    return outcome.tensors.model_digest(), dict(outcome.metrics), dict(outcome.meta)


class Blocked:
    """A train function that holds its thread until it is let go."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.entered = asyncio.Event()
        self.leave = threading.Event()

    def __call__(self, model, site):
        site.state["seen"] = True
        self.loop.call_soon_threadsafe(self.entered.set)
        self.leave.wait()
        return FLModel(params=model.params)


async def gone(pid, act):
    """Run ``act``; return whether the process ended within five seconds after it."""
    handle = os.pidfd_open(pid)
    try:
        await act()
        return bool(select.select([handle], [], [], 5)[0])
    finally:
        os.close(handle)


@pytest.mark.parametrize("kind", [InlineSpawner, ThreadSpawner, ProcessSpawner])
def test_a_spawner_has_at_least_one_slot(kind):
    """Nobody would ever get a turn."""
    assert kind(slots=3).slots == 3
    with pytest.raises(ConfigError, match="slots=0"):
        kind(slots=0)


async def bits_of(spawner, framework):
    """Return what all kinds must agree on, and what only those must that work alone."""
    if framework == "torch":
        return await digest_of(spawner, torch_task()), None
    shared = await digest_of(spawner, task_of(user_code.private_rng_step))
    assert shared == await digest_of(spawner, task_of(user_code.async_step))
    return shared, await digest_of(spawner, task_of(user_code.numpy_step, 1, round_number=2))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("new_loop", "framework"),
    [(asyncio.new_event_loop, "torch"), (uvloop.new_event_loop, "numpy")],
)
def test_all_kinds_give_the_same_bits(new_loop, framework):
    """Inline and process seed everything; threads and coroutines have the site's generators."""

    async def main():
        found = []
        for spawner in (InlineSpawner(), ThreadSpawner(1), ProcessSpawner(1)):
            async with spawner:
                found.append(await bits_of(spawner, framework))
        return found

    with asyncio.Runner(loop_factory=new_loop) as runner:
        inline, thread, process = runner.run(main())
    assert inline == process
    assert inline[0] == thread[0]


@pytest.mark.slow
@pytest.mark.asyncio
async def test_failures_read_the_same_in_a_process_as_inline():
    """Which kind of worker a site has must not show in its errors."""
    tasks = [
        task_of(train) for train in (user_code.raising, user_code.exiting, user_code.returning_none)
    ]
    found = []
    for spawner in (InlineSpawner(), ThreadSpawner(1), ProcessSpawner(1)):
        async with spawner:
            problems = []
            for task in tasks:
                with pytest.raises(TrainingFailed) as caught:
                    await spawner.run(task)
                problems.append((caught.value.problem, caught.value.details.count("\n")))
            found.append(problems)
    assert found[0] == found[1] == found[2]


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_process_takes_options_partials_and_differences():
    """What describes a task reaches the worker, and what the update is comes back."""
    async with ProcessSpawner(1) as spawner:
        options = await spawner.run(task_of(user_code.configured, rates=(0.25, 0.5)))
        train = functools.partial(user_code.scaled, factor=3.0)
        partial = await spawner.run(task_of(train))
        change = await spawner.run(task_of(user_code.difference))
        large = await spawner.run(task_of(train, tensors=LARGE))
    assert options.metrics == {"rate": 0.5}
    assert partial.tensors.numpy()["w"].tolist() == [0, 3, 6, 9]
    assert change.params_type is ParamsType.DIFF
    assert large.tensors.numpy()["w"].sum() == 3 * 400_000


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("kind", [InlineSpawner, ThreadSpawner, ProcessSpawner])
async def test_an_evaluation_has_metrics_and_no_tensors(kind):
    """The function of the work that judges the model as it came is called instead."""
    work = Work(user_code.raising, evaluate=user_code.evaluated)
    task = TrainTask(work, MODEL, SiteInfo(name="site-1"), kind="validate")
    async with kind(1) as spawner:
        outcome = await spawner.run(task)
    assert (outcome.tensors, outcome.metrics) == (None, {"sum": 6.0, "num_examples": 4.0})


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_sites_state_lives_in_its_worker():
    """Sites stick to a worker; the state is there in the next round and nobody else's."""
    async with ProcessSpawner(2) as spawner:
        async with asyncio.TaskGroup() as group:
            first = [
                group.create_task(spawner.run(task_of(user_code.counting, index)))
                for index in range(3)
            ]
        again = await spawner.run(task_of(user_code.counting, 2, round_number=1))
        pids = [task.result().metrics["pid"] for task in first]
    assert [task.result().metrics["rounds"] for task in first] == [1, 1, 1]
    assert again.metrics == {"rounds": 2, "pid": pids[0]}
    assert pids[0] == pids[2] != pids[1]


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", [InlineSpawner, ThreadSpawner])
async def test_a_sites_state_is_kept_from_round_to_round(kind):
    """Optimizer state and counters survive, whichever slot the site gets."""
    async with kind(2) as spawner:
        rounds = [
            (await spawner.run(task_of(user_code.counting, site))).metrics["rounds"]
            for site in (0, 1, 0, 1)
        ]
    assert rounds == [1, 1, 2, 2]


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", [InlineSpawner, ThreadSpawner])
async def test_an_update_survives_the_next_training_in_its_slot(kind):
    """The slot's memory is reused, the update is not in it."""

    def shift(model, site):
        model.params["w"] += site.index
        return model

    async with kind(1) as spawner:
        first = await spawner.run(task_of(shift, 1))
        await spawner.run(task_of(shift, 5))
    assert first.tensors.numpy()["w"].tolist() == [1, 2, 3, 4]
    assert MODEL.numpy()["w"].tolist() == [0, 1, 2, 3]


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", [InlineSpawner, ThreadSpawner])
async def test_async_functions_run_on_the_loop_and_share_it(kind):
    """Two of them wait for each other, which only works when both are running."""
    here = threading.current_thread()
    meeting = asyncio.Barrier(2)

    async def meet(model, site):
        await meeting.wait()
        assert threading.current_thread() is here
        return FLModel(params=model.params)

    async with kind(2) as spawner, asyncio.TaskGroup() as group:
        for index in range(2):
            group.create_task(spawner.run(task_of(meet, index)))


@pytest.mark.asyncio
async def test_a_synchronous_function_that_returns_a_coroutine_is_awaited():
    """A decorator may hide that a function is async."""

    def disguised(model, site):
        return user_code.async_step(model, site)

    async with InlineSpawner() as inline, ThreadSpawner(1) as thread:
        expected = await digest_of(inline, task_of(user_code.async_step))
        assert await digest_of(inline, task_of(disguised)) == expected
        assert await digest_of(thread, task_of(disguised)) == expected


@pytest.mark.asyncio
async def test_callers_get_slots_in_the_order_in_which_they_came():
    """Cohort order is start order, or results pile up behind the cursor."""
    order = []

    async def note(model, site):
        order.append(site.index)
        await asyncio.sleep(0)
        return FLModel(params=model.params)

    async with InlineSpawner() as spawner, asyncio.TaskGroup() as group:
        for index in range(6):
            group.create_task(spawner.run(task_of(note, index)))
    assert order == [0, 1, 2, 3, 4, 5]


@pytest.mark.asyncio
async def test_a_cancelled_waiter_gives_its_turn_to_the_next():
    """Also one that was woken already and had not run yet."""
    slots = Slots(["only"])
    held = await slots.acquire()
    async with asyncio.TaskGroup() as group:
        woken, patient = (group.create_task(slots.acquire()) for _ in range(2))
        await asyncio.sleep(0)
        slots.release(held)
        woken.cancel()
    assert (woken.cancelled(), patient.result(), slots.waiting) == (True, "only", 0)


@pytest.mark.asyncio
async def test_a_newcomer_does_not_overtake_whoever_was_woken():
    """Between the wake-up and the waiter's step the slot is free, and yet taken."""
    slots = Slots(["only"])
    held = await slots.acquire()
    order = []

    async def take(name):
        slot = await slots.acquire()
        order.append(name)
        slots.release(slot)

    async with asyncio.TaskGroup() as group:
        group.create_task(take("waiter"))
        await asyncio.sleep(0)
        slots.release(held)
        await take("newcomer")
    assert order == ["waiter", "newcomer"]


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", [InlineSpawner, ThreadSpawner, ProcessSpawner])
async def test_a_closed_spawner_refuses_work(kind):
    """Nobody would end what it started."""
    async with kind(1) as spawner:
        pass
    with pytest.raises(LocalProtocolError, match="closed"):
        await spawner.run(task_of(user_code.numpy_step))


@pytest.mark.asyncio
async def test_cancelling_abandons_the_thread_and_frees_its_slot():
    """The thread ends when user code returns; the site starts anew, others are not held up."""
    blocked = Blocked()
    async with ThreadSpawner(1) as spawner:
        async with asyncio.TaskGroup() as group:
            run = group.create_task(spawner.run(task_of(blocked)))
            await blocked.entered.wait()
            run.cancel()
        assert spawner.abandoned == 1
        again = await spawner.run(task_of(user_code.counting))
        blocked.leave.set()
        while spawner.abandoned:
            await asyncio.sleep(0)
    assert again.metrics["rounds"] == 1


@pytest.mark.asyncio
async def test_closing_does_not_wait_for_a_busy_thread():
    """An abort during a minute's sleep returns at once; the run fails with a typed error."""
    blocked = Blocked()
    spawner = ThreadSpawner(2)
    async with asyncio.TaskGroup() as group:
        run = group.create_task(outcome_or_error(spawner, task_of(blocked)))
        await blocked.entered.wait()
        await spawner.run(task_of(user_code.counting, 1))
        await spawner.aclose()
        assert isinstance(await run, LocalProtocolError)
    assert spawner.abandoned == 1
    blocked.leave.set()
    while spawner.abandoned:
        await asyncio.sleep(0)
    assert not [thread for thread in threading.enumerate() if thread.name == "flare-train"]


async def outcome_or_error(spawner, task):
    try:
        return await spawner.run(task)
    except (LocalProtocolError, TrainingFailed) as error:
        return error


@pytest.mark.asyncio
async def test_an_idle_thread_spawner_leaves_no_thread():
    """Leaving the block ends what it started."""
    async with ThreadSpawner(2) as spawner:
        await spawner.run(task_of(user_code.counting))
    assert not [thread for thread in threading.enumerate() if thread.name == "flare-train"]


@pytest.mark.asyncio
async def test_an_interrupt_in_a_thread_reaches_the_loop():
    """KeyboardInterrupt is not a failure of one site."""

    def interrupt(model, site):
        raise KeyboardInterrupt

    async with ThreadSpawner(1) as spawner:
        with pytest.raises(KeyboardInterrupt):
            await spawner.run(task_of(interrupt))


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_task_that_kills_two_workers_has_failed_and_a_third_takes_the_next(capsys):
    """The error names the signal and the last output."""
    async with ProcessSpawner(1) as spawner:
        with pytest.raises(TrainingFailed) as caught:
            await spawner.run(task_of(user_code.killing_itself))
        await spawner.run(task_of(user_code.killing_itself, round_number=1))
        assert spawner.retried == 1
    assert "signal 9 (SIGKILL)" in caught.value.problem
    assert caught.value.details.splitlines()[-1] == "the last words"
    assert capsys.readouterr().err == "the last words\n" * 2


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_worker_that_dies_costs_one_retried_task(tmp_path):
    """Which gives what it would have given; nobody sees more than a warning."""
    task = task_of(user_code.dying_once, mark=str(tmp_path / "mark"))
    async with ProcessSpawner(1) as spawner:
        outcome = await spawner.run(task)
        assert spawner.retried == 1
    assert outcome.tensors is not None
    assert outcome.tensors.nbytes == task.tensors.nbytes


@pytest.mark.slow
@pytest.mark.asyncio
async def test_cancelling_kills_the_worker_and_what_it_started(tmp_path):
    """A program that user code started must not outlive its run."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    async with ProcessSpawner(1) as spawner, asyncio.TaskGroup() as group:
        run = group.create_task(spawner.run(task_of(user_code.leaving_a_child, pipe=str(pipe))))
        pids = (await anyio.Path(pipe).read_text()).split()

        async def cancel():
            run.cancel()
            with suppress(asyncio.CancelledError):
                await run

        assert await gone(int(pids[1]), cancel)
        assert spawner.pids == []
        with pytest.raises(ProcessLookupError):
            os.kill(int(pids[0]), 0)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_closing_ends_a_busy_worker_and_fails_its_run(tmp_path):
    """Aborting a run does not wait for the training."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    spawner = ProcessSpawner(1)
    async with asyncio.TaskGroup() as group:
        task = task_of(user_code.leaving_a_child, pipe=str(pipe))
        run = group.create_task(outcome_or_error(spawner, task))
        await anyio.Path(pipe).read_text()
        await spawner.aclose()
    assert isinstance(run.result(), LocalProtocolError)
    assert spawner.pids == []


@pytest.mark.asyncio
async def test_a_function_that_cannot_travel_is_refused_before_a_worker_starts():
    """The error stands at the submitter, with what to do."""

    def nested(model, site):
        return model

    async with ProcessSpawner(1) as spawner:
        with pytest.raises(ConfigError, match="defined inside a function"):
            await spawner.run(task_of(nested))
        assert spawner.pids == []


PARENT = """
import asyncio, os, signal, sys
from tests.jobs.test_spawners import ProcessSpawner, task_of, user_code

async def main():
    async with ProcessSpawner(1) as spawner:
        await spawner.run(task_of(user_code.counting))
        print(spawner.pids[0], flush=True)
        sys.stdin.read()

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.asyncio
async def test_a_worker_does_not_outlive_a_parent_that_is_killed():
    """Nobody is left to read its answer."""
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    worker = int(await parent.stdout.readline())

    async def kill():
        parent.send_signal(signal.SIGKILL)
        await parent.wait()
        parent.stdin.close()

    assert await gone(worker, kill)
