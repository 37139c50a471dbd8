"""An event loop with a virtual clock and seeded scheduling.

Rules of the loop:

* The clock stands still while anything is ready and then jumps to the next timer. A timer at
  infinity (``anyio.sleep_forever`` arms one) is no timer.
* Plain callbacks keep the first-in, first-out order that asyncio documents. Only task steps are
  permuted: those that are ready together run after the callbacks that are ready with them, in an
  order drawn from the stream ``"<seed>:sched"``. Before the draw they are sorted by the number that
  a task gets when it is created, because task groups cancel their members in the order of memory
  addresses. So the schedule is the same whatever the addresses and the hash seed.
* Nothing ready and no timer is a deadlock, and so is a clock that passes ``horizon`` or that stands
  still for a million turns. Each raises ``SimDeadlock`` with every pending task and its await site.
* ``run_in_executor`` (``asyncio.to_thread``) runs the function inline, as a task of its own, after
  a virtual latency from ``"<seed>:executor"``: without it a race around the call has no width.
  Inside the function no loop is running, as in a thread.
* Sockets, processes, signals and real threads (``anyio.to_thread``) raise ``LocalProtocolError``.
"""

from __future__ import annotations

import asyncio
import math
import random
import threading
from asyncio import events
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from flare_async.errors import LocalProtocolError, SimDeadlock
from flare_async.testing.aftermath import check_end, wind_down
from flare_async.testing.fence import FENCED, fenced
from flare_async.testing.story import describe_tasks
from flare_async.testing.task import SimTask, step_number, stepped_task
from flare_async.testing.timers import Alarm, SimHandle, SimTimer, Timers
from flare_async.testing.trace import Trace, hashed

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["DAY", "SimLoop", "run_sim"]

DAY = 86_400.0
TURNS_WITHOUT_TIME = 1_000_000  # a second or two of real time: a busy loop, not a busy program
EXECUTOR_SECONDS = 0.001

T = TypeVar("T")
Args = TypeVarTuple("Args")


class SimLoop(asyncio.BaseEventLoop):
    """Run a program in virtual time; ``seed`` decides every choice that asyncio leaves open.

    ``permute=False`` keeps asyncio's own order. ``trace`` is a list that gets a line for every task
    step, or a ``HashedTrace``. ``horizon`` is the virtual second that the clock may not pass.
    """

    _closed: bool
    _debug: bool
    _ready: deque[asyncio.Handle | Alarm]
    _stopping: bool
    _thread_id: int | None

    def __init__(
        self,
        seed: int = 0,
        *,
        permute: bool = True,
        horizon: float = math.inf,
        trace: Trace | None = None,
    ) -> None:
        super().__init__()
        self.seed = seed
        self.horizon = horizon
        self.trace = trace
        self.unhandled: list[dict[str, Any]] = []
        self._permute = permute
        self._sched = random.Random(f"{seed}:sched")
        self._executor = random.Random(f"{seed}:executor")
        self.now = 0.0
        self._turns = 0
        self._tasks_made = 0
        self.timers = Timers()
        self._breach: LocalProtocolError | None = None

    def time(self) -> float:
        """Return virtual seconds since the loop was made."""
        return self.now

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
        **options: Any,  # noqa: ANN401 - what later versions of asyncio add
    ) -> asyncio.Task[T]:
        """Schedule a coroutine as a numbered task.

        Tasks of a task factory have no number: they keep their place among plain callbacks.
        """
        if self.get_task_factory() is not None:
            return super().create_task(coro, name=name, context=context, **options)
        self._tasks_made += 1
        # asyncio counts default names for the whole process: they would depend on earlier runs
        text = f"task-{self._tasks_made}" if name is None else str(name)
        task = SimTask(coro, loop=self, name=text, context=context, **options)
        task.number = self._tasks_made
        task.label = getattr(coro, "__qualname__", type(coro).__qualname__)
        return task

    def pending_tasks(self) -> list[asyncio.Task[Any]]:
        """Return the tasks that are not done, in the order in which they were created."""
        return sorted(asyncio.all_tasks(self), key=lambda task: getattr(task, "number", 0))

    def trace_hash(self) -> str:
        """Return SHA-256 over the trace: virtual time, task name and coroutine of every step."""
        return hashed(self.trace or []).hexdigest()

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log what nobody handles and keep it, so that ``run_sim`` fails."""
        self.unhandled.append(context)
        super().default_exception_handler(context)

    def run_forever(self) -> None:
        """Run until stopped; what alarms set, which copy no context, is not set for the caller."""
        copy_context().run(super().run_forever)

    def call_soon(
        self,
        callback: Callable[[*Args], object],
        *args: *Args,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """Call at the next turn, behind what is ready."""
        if self._debug:
            return super().call_soon(callback, *args, context=context)
        if self._closed:
            raise RuntimeError("Event loop is closed")
        handle = SimHandle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self,
        callback: Callable[[*Args], object],
        *args: *Args,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """Call soon, from the loop's own thread only.

        Raises:
            LocalProtocolError: another thread called; the simulation fails with it, too.
        """
        if self._thread_id not in {None, threading.get_ident()}:
            thread = threading.current_thread().name
            self._breach = LocalProtocolError(
                f"simulation fence: thread {thread!r} called into a simulated loop"
            )
            raise self._breach
        return self.call_soon(callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Args], object],
        *args: *Args,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call at a virtual second; those of the same second are called in this order."""
        if self._closed:
            raise RuntimeError("Event loop is closed")
        timer = SimTimer(when, callback, args, self, context)
        self.timers.add(when, timer)
        return timer

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Args], T], *args: *Args
    ) -> asyncio.Future[T]:
        """Run ``func`` inline at a seeded virtual time; cancelling before that forgets it."""
        delay = self._executor.uniform(0.0, EXECUTOR_SECONDS) if self._permute else 0.0

        async def call() -> T:
            await asyncio.sleep(delay)
            # as in a thread no loop is running: func may block, and may run a loop of its own
            events._set_running_loop(None)
            try:
                return func(*args)
            finally:
                events._set_running_loop(self)

        return self.create_task(call(), name=f"executor-{self._tasks_made + 1}")

    def prolong(self) -> None:
        """Let another day pass, whatever the horizon, so that what is left can end."""
        self.horizon, self._turns = self.now + DAY, 0

    def _run_once(self) -> None:
        """Run what is ready; advance the clock first when nothing is."""
        if self._breach is not None:
            raise self._breach
        ready = self._ready
        if not ready and not self._stopping:
            self._advance()
        self._turns += 1
        if self._turns > TURNS_WITHOUT_TIME:
            raise self._deadlock(f"virtual time stands still at {self.now:.6f} s")
        near = self.timers.near
        if near and near[0][0] <= self.now:
            self.timers.take_due(self.now, ready)
        if len(ready) > 1:
            self._run_ready()
        elif ready and not (handle := ready.popleft())._cancelled:
            if self.trace is None:
                handle._run()  # most turns: one frame arrives, or one task goes on
            else:
                self._step(handle)

    def _advance(self) -> None:
        near = self.timers.near
        when = near[0][0] if near and not near[0][2]._cancelled else self.timers.next()
        if when > self.now:
            if when > self.horizon or when == math.inf:
                raise self._too_late(when)
            self.now = float(when)
            self._turns = 0

    def _run_ready(self) -> None:
        ready = self._ready
        steps: list[asyncio.Handle] = []
        try:
            for _ in range(len(ready)):
                handle = ready.popleft()
                plain = type(handle) is SimTimer or not self._permute
                if not plain and isinstance(handle, asyncio.Handle) and stepped_task(handle):
                    steps.append(handle)
                elif not handle._cancelled:
                    self._step(handle)
            if len(steps) > 1:
                steps.sort(key=step_number)
                self._sched.shuffle(steps)
            steps.reverse()
            while steps:
                self._step(steps.pop())
        finally:  # an interrupt ends this turn early; what is left belongs to the next
            ready.extendleft(steps)

    def _step(self, handle: asyncio.Handle | Alarm) -> None:
        if self.trace is not None and isinstance(handle, asyncio.Handle):
            task = stepped_task(handle)
            if task is not None:
                self.trace.append((self.now, task.get_name(), task.label))
        handle._run()

    def _too_late(self, when: float) -> SimDeadlock:
        if when == math.inf:
            return self._deadlock(f"nothing can happen after {self.now:.6f} s")
        return self._deadlock(f"not finished after {self.horizon:.6f} virtual seconds")

    def _deadlock(self, problem: str) -> SimDeadlock:
        tasks = self.pending_tasks()
        waiting = f"{len(tasks)} tasks wait:\n{describe_tasks(tasks)}"
        return SimDeadlock(f"seed {self.seed}: {problem}; {waiting}")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if handle._scheduled:  # type: ignore[attr-defined] # asyncio's own mark: in the heap
            self.timers.cancelled()


for _name in FENCED:
    setattr(SimLoop, _name, fenced(_name))


def run_sim(
    main: Callable[[], Awaitable[T]],
    *,
    seed: int = 0,
    permute: bool = True,
    horizon: float = DAY,
    trace: Trace | None = None,
) -> T:
    """Run ``main()`` on a SimLoop to its end, with every task that it started.

    Raises:
        SimDeadlock: nothing can happen any more, or the clock passed ``horizon``.
        LocalProtocolError: tasks are left, a callback raised, or the real world was touched.
    """
    loop = SimLoop(seed, permute=permute, horizon=horizon, trace=trace)
    try:
        result = loop.run_until_complete(_call(main))
        check_end(loop)
        return result
    finally:
        wind_down(loop)


async def _call(main: Callable[[], Awaitable[T]]) -> T:
    return await main()
