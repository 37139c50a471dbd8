"""The simulated loop: virtual time, seeded steps, deadlocks that speak, fences."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from flare_async.errors import LocalProtocolError, SimDeadlock
from flare_async.testing.loop import SimLoop, run_sim

ROOT = Path(__file__).parents[2]
STORY = Path(__file__).with_name("story_program.py")


async def finish_order(count: int) -> list[int]:
    """Return the order in which tasks that are ready together run."""
    order: list[int] = []

    async def step(number: int) -> None:
        await asyncio.sleep(0)
        order.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(step(number))
    return order


def test_a_day_of_sleep_costs_no_time(sim):
    """The clock jumps to the next timer."""

    async def main():
        await anyio.sleep(80_000)
        return asyncio.get_running_loop().time()

    assert sim(main) == 80_000.0


def test_timers_fire_in_the_order_of_their_times(sim):
    """Each at its own virtual second, cancelled ones not at all."""

    async def main():
        loop, seen = asyncio.get_running_loop(), []
        for when in (3.0, 1.0, 2.0):
            loop.call_at(when, lambda when=when: seen.append((when, loop.time())))
        loop.call_at(1.5, seen.append, "cancelled").cancel()
        await asyncio.sleep(5)
        return seen

    assert sim(main) == [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]


def test_a_thousand_cancelled_timers_leave_the_heap():
    """A timer a send, cancelled a send, must not pile up for its whole patience."""
    loop = SimLoop()
    kept = [loop.call_at(float(when), print) for when in range(100, 110)]
    for when in range(1000, 2000):
        loop.call_at(float(when), print).cancel()
    loop.run_until_complete(asyncio.sleep(0))
    assert len(loop.timers) <= len(kept) + 100
    loop.close()


def test_a_timer_at_infinity_is_no_timer(sim):
    """anyio's sleep_forever arms one; the clock must not run away."""

    async def main():
        with anyio.move_on_after(7.0):
            await anyio.sleep_forever()
        return asyncio.get_running_loop().time()

    assert sim(main) == 7.0


def test_plain_callbacks_keep_their_order():
    """What asyncio documents holds for every seed."""

    async def main():
        seen: list[int] = []
        for number in range(20):
            asyncio.get_running_loop().call_soon(seen.append, number)
        await asyncio.sleep(1)
        return seen

    assert all(run_sim(main, seed=seed) == list(range(20)) for seed in range(5))


def test_a_step_never_overtakes_a_callback_that_was_ready_before():
    """A done-callback has run when the task that awaits the same future goes on."""

    async def wait(future, seen):
        future.add_done_callback(lambda _: seen.append("callback"))
        await future
        seen.append("step")

    async def main():
        seen: list[str] = []
        future = asyncio.get_running_loop().create_future()
        async with asyncio.TaskGroup() as group:
            group.create_task(wait(future, seen))
            await asyncio.sleep(0.1)
            future.set_result(None)
        return seen

    assert all(run_sim(main, seed=seed) == ["callback", "step"] for seed in range(5))


def test_a_seed_decides_the_order_of_ready_steps():
    """The same seed gives the same order, and other seeds give others."""
    orders = [tuple(run_sim(lambda: finish_order(5), seed=seed)) for seed in range(20)]
    again = [tuple(run_sim(lambda: finish_order(5), seed=seed)) for seed in range(20)]
    assert orders == again
    assert len(set(orders)) > 10


def test_without_permutation_steps_keep_asyncios_order():
    """``permute=False`` is plain asyncio in virtual time."""
    assert run_sim(lambda: finish_order(5), permute=False) == [0, 1, 2, 3, 4]


def test_call_soon_of_task_cancel_is_a_callback_not_a_step():
    """Only steps are permuted; other bound methods of a task are plain callbacks."""

    async def main():
        loop, seen = asyncio.get_running_loop(), []
        async with asyncio.TaskGroup() as group:
            task = group.create_task(asyncio.sleep(9))
            await asyncio.sleep(1)
            loop.call_soon(lambda: seen.append(task.cancelling()))
            loop.call_soon(task.cancel)
            loop.call_soon(lambda: seen.append(task.cancelling()))
        return seen

    assert all(run_sim(main, seed=seed) == [0, 1] for seed in range(5))


def test_cancellation_by_a_task_group_is_the_same_whatever_the_addresses():
    """Task groups cancel in the order of a set; the loop sorts before it draws."""

    async def main():
        ended: list[int] = []

        async def wait(number):
            try:
                await anyio.sleep_forever()
            finally:
                ended.append(number)

        ballast = [bytes(200) for _ in range(next(sizes))]  # moves what is allocated next
        async with anyio.create_task_group() as group:
            for number in range(30):
                group.start_soon(wait, number)
            await anyio.sleep(1)
            group.cancel_scope.cancel()
        ballast.clear()
        return ended

    sizes = iter([0, 13, 1009])
    first, second, third = (run_sim(main, seed=3) for _ in range(3))
    assert first == second == third


@pytest.mark.slow
def test_the_trace_does_not_depend_on_the_hash_seed():
    """Two processes with different hash seeds tell the same story."""
    hashes = set()
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    for hash_seed in ("0", "77"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
        done = subprocess.run(
            [sys.executable, str(STORY), "5"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        hashes.add(done.stdout)
    assert len(hashes) == 1


def test_nothing_ready_and_no_timer_is_a_deadlock_with_every_await_site():
    """The message names each task and the chain of awaits to where it stands."""

    async def stuck(event):
        await event.wait()

    async def main():
        async with asyncio.TaskGroup() as group:
            group.create_task(stuck(asyncio.Event()), name="client-3")

    with pytest.raises(SimDeadlock, match=r"seed 4: .*2 tasks wait") as caught:
        run_sim(main, seed=4)
    assert "client-3: " in str(caught.value)
    assert ".stuck:" in str(caught.value)
    assert " > Event.wait:" in str(caught.value)
    assert ".py" not in str(caught.value)


def test_a_program_with_heartbeats_cannot_hide_a_hang():
    """Timers that come for ever end at the horizon, with the same message."""

    async def main():
        while True:
            await asyncio.sleep(5)

    with pytest.raises(SimDeadlock, match="not finished after 60"):
        run_sim(main, horizon=60.0)


def test_clean_up_that_takes_time_still_runs_after_the_horizon():
    """A run that is given up is wound down as a run that is cancelled."""
    ended: list[float] = []

    async def main():
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(100)
            ended.append(asyncio.get_running_loop().time())

    with pytest.raises(SimDeadlock):
        run_sim(main, horizon=60.0)
    assert ended == [100.0]


def test_turns_count_only_while_the_clock_stands_still(monkeypatch):
    """A long program is no busy loop."""
    monkeypatch.setattr("flare_async.testing.loop.TURNS_WITHOUT_TIME", 50)

    async def main():
        for _ in range(200):
            await asyncio.sleep(1)
        return True

    assert run_sim(main)


def test_a_busy_loop_that_stops_the_clock_is_found(monkeypatch):
    """A task that yields for ever at one virtual instant is a hang, too."""
    monkeypatch.setattr("flare_async.testing.loop.TURNS_WITHOUT_TIME", 1000)

    async def main():
        while True:
            await asyncio.sleep(0)

    with pytest.raises(SimDeadlock, match="stands still"):
        run_sim(main)


def test_a_task_that_is_left_fails_the_run():
    """Every task has an owner that outlives it."""

    async def main():
        leaked.append(asyncio.get_running_loop().create_task(asyncio.sleep(9), name="orphan"))

    leaked: list[asyncio.Task[None]] = []
    with pytest.raises(LocalProtocolError, match="1 tasks are left at the end:\n  orphan"):
        run_sim(main)
    assert leaked[0].cancelled()


def test_an_exception_in_a_callback_fails_the_run(caplog):
    """What asyncio only logs is an error in simulation."""

    async def main():
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)

    with pytest.raises(LocalProtocolError, match="ZeroDivisionError"):
        run_sim(main)
    assert "ZeroDivisionError" in caplog.text


def test_the_programs_own_error_comes_out_as_it_is():
    """Nothing wraps it, and the loop is closed."""

    async def main():
        loops.append(asyncio.get_running_loop())
        raise KeyError("mine")

    loops: list[asyncio.AbstractEventLoop] = []
    with pytest.raises(KeyError, match="mine"):
        run_sim(main)
    assert loops[0].is_closed()


def test_an_interrupt_leaves_the_other_steps_for_the_clean_up():
    """Steps that were ready with the one that exits still run their finally blocks."""
    ended: list[int] = []

    async def wait(number):
        try:
            await asyncio.sleep(1)
            if number == 0:
                raise SystemExit(3)
            await asyncio.sleep(1)
        finally:
            ended.append(number)

    async def main():
        async with asyncio.TaskGroup() as group:
            for number in range(5):
                group.create_task(wait(number))

    for seed in range(3):
        ended.clear()
        with pytest.raises(SystemExit):
            run_sim(main, seed=seed)
        assert sorted(ended) == [0, 1, 2, 3, 4]


def test_to_thread_runs_inline_in_virtual_time(sim):
    """The function runs on this thread, where no loop is running, after a seeded latency."""

    def work():
        time.sleep(0)  # allowed, as in a thread
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        return threading.get_ident(), asyncio.run(asyncio.sleep(0, "nested"))

    async def main():
        result = await asyncio.to_thread(work)
        return result, asyncio.get_running_loop().time()

    (thread, nested), seconds = sim(main, seed=1)
    assert (thread, nested) == (threading.get_ident(), "nested")
    assert 0 < seconds < 0.001


def test_an_exception_in_to_thread_reaches_the_caller(sim):
    """As from a thread."""

    async def main():
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)
        return True

    assert sim(main)


def test_to_thread_keeps_context_variables_apart(sim):
    """What the function sets is not seen by its caller."""

    async def main():
        with anyio.CancelScope():
            return await asyncio.to_thread(lambda: "inside"), asyncio.current_task() is not None

    assert sim(main) == ("inside", True)


def test_anyio_threads_are_fenced_at_the_call(sim):
    """A real thread's result would come at no virtual time; the error says what to use."""

    async def main():
        with pytest.raises(LocalProtocolError, match=r"real thread.*asyncio.to_thread"):
            await anyio.to_thread.run_sync(lambda: 1)
        return True

    assert sim(main)


def test_a_foreign_thread_that_calls_in_fails_the_simulation():
    """Both the thread and the loop are told."""

    async def main():
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=call_in, args=(loop,), name="intruder")
        thread.start()
        thread.join()
        await asyncio.sleep(1)

    def call_in(loop):
        with pytest.raises(LocalProtocolError):
            loop.call_soon_threadsafe(print)

    with pytest.raises(LocalProtocolError, match="thread 'intruder' called into"):
        run_sim(main)


async def open_socket():
    """Connect to a port."""
    await asyncio.open_connection("localhost", 1)


async def spawn():
    """Start a process."""
    await asyncio.create_subprocess_exec("true")


async def look_up():
    """Resolve a name."""
    await asyncio.get_running_loop().getaddrinfo("localhost", 1)


async def catch_signal():
    """Handle a signal."""
    asyncio.get_running_loop().add_signal_handler(2, print)


@pytest.mark.parametrize("escape", [open_socket, spawn, look_up, catch_signal])
def test_the_real_world_is_fenced(escape):
    """No socket, process, look-up or signal leaves a simulation."""
    with pytest.raises(LocalProtocolError, match="simulation fence"):
        run_sim(escape)


def test_anyio_runs_on_the_loop_with_everything_that_we_use():
    """Task groups, scopes, timeouts, events and memory streams work under anyio.run."""

    async def main():
        send, receive = anyio.create_memory_object_stream[int](2)
        event, seen = anyio.Event(), []

        async def produce():
            async with send:
                for number in range(5):
                    await send.send(number)
                    await anyio.sleep(10)
            event.set()

        async with anyio.create_task_group() as group, receive:
            group.start_soon(produce)
            seen += [number async for number in receive]
            await event.wait()
        with pytest.raises(TimeoutError), anyio.fail_after(3):
            await anyio.sleep(4)
        return seen, anyio.current_time()

    options = {"loop_factory": lambda: SimLoop(seed=2)}
    assert anyio.run(main, backend_options=options) == ([0, 1, 2, 3, 4], 53.0)


def test_the_loop_works_under_asyncios_runner():
    """``asyncio.Runner`` takes the loop as any other."""
    with asyncio.Runner(loop_factory=SimLoop) as runner:
        assert sorted(runner.run(finish_order(3))) == [0, 1, 2]
        assert runner.run(asyncio.sleep(100, "slept")) == "slept"


def test_tasks_of_a_task_factory_keep_their_place():
    """A host application's own tasks run, in asyncio's order."""

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coro, **options: asyncio.Task(coro, loop=loop))
        return await finish_order(4)

    assert run_sim(main) == [0, 1, 2, 3]


def test_the_trace_has_a_line_for_every_step():
    """Virtual time, task and coroutine; names count from one in every run."""
    trace: list[tuple[float, str, str]] = []
    run_sim(lambda: asyncio.sleep(2), trace=trace)
    steps = [(0.0, "task-1", "_call"), (2.0, "task-1", "_call")]
    assert trace[:2] == steps


def test_the_trace_hash_covers_times_names_and_coroutines():
    """Timers at whole seconds hash as others do; another time is another story."""

    async def main(seconds):
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        loop.call_at(seconds, over.set)
        await over.wait()
        loop.call_soon_threadsafe(over.clear)

    def trace_hash(seconds):
        loop = SimLoop(trace=[])
        loop.run_until_complete(main(seconds))
        loop.close()
        return loop.trace_hash()

    assert trace_hash(2) == trace_hash(2.0) != trace_hash(3)
