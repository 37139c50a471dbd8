"""Every way in which a trainer can fail its task is told apart, in time, with its last words."""

import os
import signal
import time

import anyio
import pytest

from flare_async.errors import (
    TrainerExited,
    TrainerIdle,
    TrainerNoResult,
    TrainerOutOfMemory,
    TrainerSignalled,
    TrainingFailed,
)
from flare_async.jobs.trainers import trainer as trainer_module
from flare_async.jobs.trainers.output import BURST, RATE
from tests.jobs.trainers.helpers import (
    HASTY,
    LIMITS,
    Spawner,
    is_alive,
    numbers,
    script_of,
    seconds_since,
    task_of,
    until,
    written,
)

pytestmark = pytest.mark.asyncio
WITHIN = 2.0  # seconds that the report of an end may take


async def failure_of(*words, kind=TrainingFailed, limits=HASTY, **options):
    """Run a script that fails; return the error and how long after the start it came."""
    async with Spawner(limits=limits) as spawner:
        began = time.monotonic()
        with pytest.raises(kind) as caught:
            await spawner.run(task_of(script_of(*words, **options)))
        return caught.value, seconds_since(began)


async def test_a_script_that_raises_is_reported_with_its_traceback():
    """The last line is in the message, the end of standard error in the details."""
    error, seconds = await failure_of("raises", kind=TrainerExited)
    assert error.code == "trainer_exit"
    assert "exited with status 1; last output: ValueError: the data are gone" in error.problem
    assert 'raise ValueError("the data are gone")' in error.details
    assert seconds < WITHIN


async def test_a_status_is_reported():
    """What was printed before is there."""
    error, _ = await failure_of("exits", 3, kind=TrainerExited)
    assert error.problem.startswith("trainer_exit: its trainer exited with status 3")
    assert error.details == "about to exit"


async def test_a_signal_is_reported():
    """Nobody of ours has sent it."""
    error, _ = await failure_of("killed", kind=TrainerSignalled)
    assert "signal 9 (SIGKILL), perhaps because memory ran out" in error.problem
    assert error.details == "last words"


async def test_a_kill_for_memory_is_told_from_another(monkeypatch):
    """The control group counts them."""
    counts = iter([4, 5])
    monkeypatch.setattr(trainer_module, "oom_kills", lambda: next(counts))
    error, _ = await failure_of("killed", kind=TrainerOutOfMemory)
    assert error.code == "trainer_out_of_memory"


async def test_a_memory_error_of_the_script_is_one_of_memory():
    """NumPy and torch have their own, of the same end of name."""
    error, _ = await failure_of("lacks-memory", kind=TrainerOutOfMemory)
    assert "MemoryError: no room for 99 GB" in error.problem


async def test_a_good_end_without_a_result_is_a_failure():
    """The message says when the script never asked for a model."""
    error, _ = await failure_of("exits", 0, kind=TrainerNoResult)
    assert "without a result for its task" in error.problem
    error, _ = await failure_of("no-init", kind=TrainerNoResult)
    assert "it never called flare.init()" in error.problem
    assert error.details == "nothing to do"


async def test_a_script_that_leaves_in_the_middle_of_a_task_has_failed():
    """Long before it would be found idle."""
    error, seconds = await failure_of("leaves", "before", kind=TrainerNoResult, limits=LIMITS)
    assert "called shutdown() without a result" in error.problem
    assert seconds < LIMITS.shutdown_timeout + WITHIN


@pytest.mark.parametrize("way", ["asleep", "never-init"])
async def test_a_script_that_does_nothing_is_given_up(way):
    """Neither processor time nor a byte nor a line for the limit."""
    error, seconds = await failure_of(way, kind=TrainerIdle)
    assert error.code == "trainer_idle"
    assert "for 1 s" in error.problem
    assert seconds < HASTY.trainer_idle_timeout + WITHIN


async def test_whoever_ignores_sigterm_is_killed(tmp_path):
    """F26: after the grace, and reaped."""
    error, _ = await failure_of("stubborn", tmp_path / "pid", kind=TrainerIdle)
    assert error.site == "site-1"
    assert not is_alive(int((tmp_path / "pid").read_text()))


async def test_holding_the_interpreter_harms_nobody():
    """One call of C for longer than every limit: no heartbeat runs in the training process."""
    async with Spawner(limits=HASTY) as spawner:
        outcome = await spawner.run(task_of(script_of("busy", 1.3)))
    assert numbers(outcome) == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("seconds", "least"), [(0.3, 10e6), pytest.param(3.0, 100e6, marks=pytest.mark.slow)]
)
async def test_a_flood_of_output_is_drained_and_cut(seconds, least):
    """F27: as fast as it can be written; a little is shown, and what was dropped is told."""
    async with Spawner() as spawner:
        outcome = await spawner.run(task_of(script_of("flood", seconds)))
    written = outcome.metrics["written"]
    shown = sum(len(line) for line in spawner.lines)
    told = [line.split("dropped ")[1] for line in spawner.lines if "... dropped" in line]
    dropped = 1e6 * sum(float(words.removesuffix(" MB of output")) for words in told)
    assert written > least
    assert shown < BURST * 1.2 + RATE * (seconds + 5)
    assert abs(written - shown - dropped) < 0.12 * shown + 0.06e6 * len(told) + 1e5


async def test_whoever_never_reads_harms_nobody():
    """Its next task finds no reader, and the limit ends it."""
    async with Spawner(limits=HASTY) as spawner:
        script = script_of("deaf")
        await spawner.run(task_of(script))
        with pytest.raises(TrainerIdle):
            await spawner.run(task_of(script, round_number=1))


async def test_what_is_no_message_fails_the_task():
    """Its process is ended."""
    error, _ = await failure_of("torn")
    assert "broke the protocol" in error.problem


async def test_records_that_find_no_room_are_dropped_in_the_script():
    """4000 at once: the client takes them at its own pace, the script does not wait."""
    records = []
    async with Spawner() as spawner:
        await spawner.run(task_of(script_of("chatty"), log=records.append))
    (line,) = spawner.lines
    dropped = int(line.rpartition(" ")[2])
    assert 100 < len(records) <= 4000 - dropped  # how many depends on the machine


async def test_a_left_behind_grandchild_is_ended_with_its_script(tmp_path):
    """It has left the session and the group; the supervisor is its parent now."""
    async with Spawner() as spawner:
        await spawner.run(task_of(script_of("grandchild", tmp_path / "pid", "go-on")))
        pid = int((tmp_path / "pid").read_text())
        await until(lambda: not is_alive(pid))


async def test_a_killed_supervisor_takes_its_script_along(tmp_path):
    """Nobody else would watch it."""
    script = script_of("stubborn", tmp_path / "pid")
    async with Spawner() as spawner, anyio.create_task_group() as group:

        async def run():
            with pytest.raises(TrainerSignalled, match="supervisor"):
                await spawner.run(task_of(script))

        group.start_soon(run)
        pid = int(await written(tmp_path / "pid"))
        os.kill(spawner.pids[0], signal.SIGKILL)
        await until(lambda: not is_alive(pid))


async def test_an_rlimit_is_set_in_the_script(tmp_path):
    """Here on files: their number is too small for the script to start."""
    error, _ = await failure_of("whole-job", kind=TrainerExited, rlimits={"nofile": 4})
    assert "exited with status" in error.problem
