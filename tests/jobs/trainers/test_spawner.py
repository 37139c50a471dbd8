"""A script in a process of its own: tasks in, results out, for a job or for a task."""

import asyncio
import gc
import os

import anyio
import numpy as np
import pytest

from flare_async.errors import ConfigError, LocalProtocolError, TrainingFailed
from flare_async.jobs.trainers.shared import SharedTensors
from flare_async.jobs.trainers.supervisor import family
from flare_async.jobs.work import Work
from flare_async.model import ParamsType
from flare_async.transfer.tensors import TensorSet
from tests.jobs.trainers.helpers import (
    HASTY,
    MODEL,
    Spawner,
    is_alive,
    numbers,
    open_files,
    script_of,
    task_of,
    until,
    written,
)

pytestmark = pytest.mark.asyncio


async def below():
    """Return the processes below this one."""
    return set(await asyncio.to_thread(family, os.getpid()))


async def test_one_process_does_every_task_of_a_job():
    """It is told of the end, ends by itself, and its records and lines are passed on."""
    records, script = [], script_of("whole-job")
    async with Spawner() as spawner:
        for number in range(3):
            task = task_of(script, round_number=number, log=records.append)
            outcome = await spawner.run(task)
            assert numbers(outcome) == [1.0, 2.0, 3.0, 4.0]
            (pid,) = spawner.pids
    assert outcome.params_type is ParamsType.FULL
    assert outcome.metrics == {"loss": 0.5}
    assert [(record.value, record.step) for record in records] == [(0, 0), (1, 1), (2, 2)]
    assert spawner.lines == ["[site-1] no more tasks"]
    assert not is_alive(pid)


async def test_the_model_itself_is_never_written_to():
    """The script changes a copy of its own."""
    before = MODEL.model_digest()
    async with Spawner() as spawner:
        await spawner.run(task_of(script_of("whole-job")))
    assert MODEL.model_digest() == before


async def test_differences_are_made_in_the_trainer():
    """Tied tensors stay tied, and more than one piece of a tensor is subtracted."""
    large = np.arange(400_000, dtype=np.float32)
    model = TensorSet.from_params({"w": large, "tied": large, "n": np.array(3)})
    script = script_of("whole-job")
    async with Spawner() as spawner:
        task = task_of(script, tensors=model, transfer=ParamsType.DIFF)
        outcome = await spawner.run(task)
    found = outcome.tensors.numpy()
    assert outcome.params_type is ParamsType.DIFF
    assert outcome.tensors.aliases == {"tied": "w"}
    assert (found["w"] == 1).all()
    assert found["n"] == 0


async def test_a_result_is_a_sealed_file_that_outlives_its_trainer():
    """F28 cannot happen: nothing of the result is left in the process that made it."""
    async with Spawner() as spawner:
        outcome = await spawner.run(task_of(script_of("dies-later")))
    source = outcome.tensors.source()
    assert isinstance(outcome.tensors, SharedTensors)
    assert bytes(source.piece("w", 4, 100)) == np.array([2, 3, 4], np.float32).tobytes()
    with pytest.raises(OSError, match="not permitted"):
        os.pwrite(outcome.tensors.file.fileno(), b"x", 0)
    with pytest.raises(OSError, match="not permitted"):
        os.ftruncate(outcome.tensors.file.fileno(), 0)


async def test_a_script_that_died_between_two_tasks_is_started_anew():
    """Its result was taken, so nothing is lost and nothing failed."""
    async with Spawner() as spawner:
        for number in range(2):
            outcome = await spawner.run(task_of(script_of("dies-later"), round_number=number))
            assert numbers(outcome) == [1.0, 2.0, 3.0, 4.0]
            (pid,) = spawner.pids
            await until(lambda pid=pid: not is_alive(pid))


async def test_a_task_that_a_dying_script_never_saw_goes_to_another_process(tmp_path):
    """It ends badly after the task was announced to it; once only, the new one sees its task."""
    word, script = tmp_path / "word", script_of("dies-on-word", tmp_path / "word")
    async with Spawner() as spawner, anyio.create_task_group() as group:
        await spawner.run(task_of(script))
        (pid,) = spawner.pids
        (seat,) = spawner._seats.values()

        async def run():
            outcome = await spawner.run(task_of(script, round_number=1))
            assert numbers(outcome) == [1.0, 2.0, 3.0, 4.0]

        group.start_soon(run)
        await until(lambda: seat.trainer._talk._current is not None)
        word.write_text("go")
    assert not is_alive(pid)


async def test_a_script_that_has_left_gets_no_more_tasks():
    """The next one goes to another process, at once."""
    async with Spawner(limits=HASTY) as spawner:
        for number in range(2):
            outcome = await spawner.run(task_of(script_of("leaves", "after"), round_number=number))
            assert numbers(outcome) == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("kind", list(ParamsType))
async def test_a_restart_in_the_middle_of_a_task_never_trains_a_changed_model(kind):
    """With differences the file is as it came; else the task fails, and says so."""
    async with Spawner() as spawner:
        task = task_of(script_of("restarts"), transfer=kind)
        if kind is ParamsType.FULL:
            with pytest.raises(TrainingFailed, match="started again in the middle"):
                await spawner.run(task)
        else:
            found = (await spawner.run(task)).tensors.numpy()["w"]
            assert found.tolist() == [1.0] * 4


async def test_threads_of_a_script_may_log():
    """The stream stays whole."""
    records = []
    async with Spawner() as spawner:
        for number in range(2):
            task = task_of(script_of("threads-log"), round_number=number, log=records.append)
            assert numbers(await spawner.run(task)) == [1.0, 2.0, 3.0, 4.0]
    assert {record.key for record in records} == {"k" * 1000}


@pytest.mark.parametrize(("way", "lines"), [("forks", ["[site-1] 7"]), ("interrupted", [])])
async def test_the_stream_outlives_forks_and_interrupts(way, lines):
    """A forked child is refused; what answers an interrupted call is skipped."""
    async with Spawner() as spawner:
        for number in range(2):
            outcome = await spawner.run(task_of(script_of(way), round_number=number))
            assert numbers(outcome) == [1.0, 2.0, 3.0, 4.0]
    assert spawner.lines == [*lines, "[site-1] no more tasks"]


async def test_a_script_is_asked_for_its_own_model():
    """It comes whole where updates are differences."""
    script = script_of("whole-job")
    async with Spawner() as spawner:
        task = task_of(script, kind="submit_model", transfer=ParamsType.DIFF)
        outcome = await spawner.run(task)
    assert outcome.params_type is ParamsType.FULL
    assert numbers(outcome) == [1.0, 2.0, 3.0, 4.0]


async def test_a_run_that_is_cancelled_twice_leaves_nothing(tmp_path):
    """F29: the second one ends the wait, not what ends the process."""
    script = script_of("stubborn", tmp_path / "pid")
    async with Spawner() as spawner:
        before = open_files()
        run = asyncio.ensure_future(spawner.run(task_of(script)))
        pid = int(await written(tmp_path / "pid"))
        run.cancel()
        await asyncio.sleep(0)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        again = await spawner.run(task_of(script_of("whole-job")))
        await until(lambda: not is_alive(pid))
    assert numbers(again) == [1.0, 2.0, 3.0, 4.0]
    del run, again  # they hold the files of the model and the result
    gc.collect()
    assert open_files() <= before


async def test_a_process_a_task_ends_when_its_result_is_not_needed_any_more():
    """It stays while somebody may still pull the result."""
    script = script_of("whole-job", launch_once=False)
    async with Spawner() as spawner:
        outcome = await spawner.run(task_of(script))
        (pid,) = spawner.pids
        source = outcome.tensors.source()
        del outcome
        gc.collect()
        assert is_alive(pid)
        del source
        gc.collect()
        await until(lambda: not is_alive(pid))
        again = await spawner.run(task_of(script, round_number=1))
        assert spawner.pids != [pid]
    assert numbers(again) == [1.0, 2.0, 3.0, 4.0]
    assert spawner.lines == ["[site-1] no more tasks"] * 2


async def test_a_result_that_cannot_be_used_is_refused_in_the_script():
    """The task goes on, and another result may be handed in."""
    async with Spawner() as spawner:
        outcome = await spawner.run(task_of(script_of("bad-then-good")))
    assert numbers(outcome) == [1.0, 2.0, 3.0, 4.0]
    assert "refused: site-1: the params differ" in spawner.lines[0]


async def test_an_evaluation_has_metrics_only():
    """The same script is asked to validate."""
    async with Spawner() as spawner:
        outcome = await spawner.run(task_of(script_of("whole-job"), kind="validate"))
    assert outcome.tensors is None
    assert outcome.metrics == {"loss": 0.5}


async def test_other_ranks_are_told_of_each_task_and_of_the_end(tmp_path):
    """They follow rank 0 and never see a model."""
    script = script_of("two-ranks", tmp_path / "seen", shutdown_timeout=10.0)
    async with Spawner() as spawner:
        for number in range(3):
            await spawner.run(task_of(script, round_number=number))
    assert (tmp_path / "seen").read_text() == "1: [1, 2, 3]"


async def test_a_second_process_of_rank_0_is_told_so():
    """A launcher that sets no rank starts every process as the first."""
    async with Spawner() as spawner:
        await spawner.run(task_of(script_of("twice-first")))
    assert any("another process of this script is rank 0" in line for line in spawner.lines)


async def test_slots_bound_how_many_train_at_once():
    """Each site has a process of its own; those that wait for a task hold no slot."""
    script = script_of("whole-job")
    async with Spawner(slots=1) as spawner, anyio.create_task_group() as group:
        for site in ("site-1", "site-2"):
            group.start_soon(spawner.run, task_of(script, name=site))
    assert sorted(spawner.lines) == ["[site-1] no more tasks", "[site-2] no more tasks"]


async def test_a_cancelled_run_leaves_no_process_and_no_descriptor(tmp_path):
    """Grandchildren that have left the session are ended, too."""
    script = script_of("grandchild", tmp_path / "pid", "sleep")
    async with Spawner() as spawner:
        before = open_files()
        async with anyio.create_task_group() as group:
            group.start_soon(spawner.run, task_of(script))
            child = int(await written(tmp_path / "pid"))
            group.cancel_scope.cancel()
        assert spawner.pids == []
        assert not is_alive(child)
        await until(lambda: open_files() <= before + 1)  # the lobby's socket


async def test_a_run_cancelled_at_any_moment_of_its_launch_leaves_nothing():
    """F29: however far it had come."""
    async with Spawner() as spawner:
        await spawner.run(task_of(script_of("whole-job")))
        before = await below()
        for turns in range(0, 60, 6):
            async with anyio.create_task_group() as group:
                group.start_soon(spawner.run, task_of(script_of("asleep"), name=f"site {turns}"))
                for _ in range(turns):
                    await asyncio.sleep(0)
                group.cancel_scope.cancel()
        assert len(spawner.pids) == 1
        with anyio.fail_after(5):
            while not await below() <= before:
                await anyio.sleep(0.05)


async def test_closing_fails_the_runs_under_way(tmp_path):
    """Their processes are ended at once, and later runs are refused."""
    spawner = Spawner()
    script = script_of("stubborn", tmp_path / "pid")
    async with spawner, anyio.create_task_group() as group:

        async def run():
            with pytest.raises(LocalProtocolError):
                await spawner.run(task_of(script))

        group.start_soon(run)
        pid = int(await written(tmp_path / "pid"))
        await spawner.aclose()
        await spawner.aclose()
    assert not is_alive(pid)
    with pytest.raises(LocalProtocolError):
        await spawner.run(task_of(script))


async def test_a_command_that_does_not_exist_is_a_failure_of_the_site():
    """The message names it."""
    async with Spawner() as spawner:
        with pytest.raises(TrainingFailed, match="no-such-program: No such file"):
            await spawner.run(task_of(script_of("whole-job", command="no-such-program -x")))


async def test_what_is_no_script_for_a_process_is_refused():
    """A function, or a script for a thread, belongs to another spawner."""
    async with Spawner() as spawner:
        task = task_of(script_of("whole-job"))
        object.__setattr__(task, "work", Work(train=lambda model, site: model))
        with pytest.raises(ConfigError):
            await spawner.run(task)
    with pytest.raises(ConfigError):
        Spawner(slots=0)
