"""Runs train functions in daemon threads: parallel where they release the interpreter lock."""

from __future__ import annotations

import asyncio
import inspect
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final, Self

import anyio

from flare_async.errors import ConfigError, LocalProtocolError
from flare_async.jobs.seeding import SingleTorchThread, limit_torch_threads
from flare_async.jobs.site import SiteStates
from flare_async.jobs.spawners.platform import usable_cores
from flare_async.jobs.spawners.slots import Slots
from flare_async.jobs.training import TrainOutcome, TrainTask, call, conclude, finish, prepare
from flare_async.transfer.pool import SlotPool

__all__ = ["ThreadSpawner"]

CLOSED: Final = "the spawner was closed while the site trained"


@dataclass(frozen=True, slots=True)
class Pending:
    """What a thread leaves to the loop where the train function gave a coroutine."""

    result: Awaitable[object]
    started: float


class Job:
    """One call in a thread, and the future that waits for it on the loop."""

    __slots__ = ("_function", "_loop", "done", "settled")

    def __init__(self, function: Callable[[], TrainOutcome | Pending]) -> None:
        self._function = function
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[TrainOutcome | Pending] = self._loop.create_future()
        self.settled = False  # the thread is through with it, whoever still waits

    def run(self) -> None:
        """Call, in the worker thread, and send what came to the loop."""
        settle: Callable[[], None]
        try:
            settle = partial(self._succeed, self._function())
        except BaseException as exc:  # noqa: BLE001 - KeyboardInterrupt belongs to the loop
            settle = partial(self._fail, exc)
        try:
            self._loop.call_soon_threadsafe(settle)
        except RuntimeError:
            return  # the loop is closed: nobody waits

    def _succeed(self, result: TrainOutcome | Pending) -> None:
        self.settled = True
        if not self.done.done():
            self.done.set_result(result)
        elif isinstance(result, Pending) and inspect.iscoroutine(result.result):
            result.result.close()

    def _fail(self, error: BaseException) -> None:
        self.settled = True
        if not self.done.done():
            self.done.set_exception(error)


class Slot:
    """One thread, started when first used, and the pool for what it trains."""

    __slots__ = ("_jobs", "job", "pool", "thread")

    def __init__(self) -> None:
        self.pool = SlotPool()
        self.job: Job | None = None
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.thread = threading.Thread(
            target=_serve, args=(self._jobs,), name="flare-train", daemon=True
        )

    @property
    def busy(self) -> bool:
        """Whether the thread is inside a call."""
        return self.job is not None and not self.job.settled

    async def do(self, function: Callable[[], TrainOutcome | Pending]) -> TrainOutcome | Pending:
        """Call in the thread; cancelling leaves the slot ``busy``."""
        if self.thread.ident is None:
            self.thread.start()
        self.job = job = Job(function)
        self._jobs.put(job)
        return await job.done

    def end(self) -> None:
        """Let the thread end after what it does now."""
        self._jobs.put(None)


def _serve(jobs: queue.SimpleQueue[Job | None]) -> None:
    while (job := jobs.get()) is not None:
        job.run()
        del job  # an idle thread must hold no model


class ThreadSpawner:
    """Calls synchronous train functions in threads of its own and awaits async ones on the loop.

    Threads are daemons outside any shared pool: one that never comes back keeps neither the
    program's exit nor other threads waiting. A cancelled run abandons its thread, which ends when
    user code returns; a fresh thread and pool take its place, and the site's state starts anew.
    """

    def __init__(
        self,
        slots: int | None = None,
        *,
        shutdown_timeout: float = 0.0,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._count = usable_cores() if slots is None else slots
        if self._count < 1:
            raise ConfigError("slots", slots, "at least one is needed")
        self._slots = Slots(Slot() for _ in range(self._count))
        self._in_use: set[Slot] = set()
        self._gone: list[threading.Thread] = []
        self._states = SiteStates()
        self._single = SingleTorchThread()
        self._shutdown_timeout = shutdown_timeout
        self._now = now

    @property
    def slots(self) -> int:
        """How many tasks may run at once."""
        return self._count

    @property
    def abandoned(self) -> int:
        """How many threads still run code whose result nobody waits for."""
        self._gone = [thread for thread in self._gone if thread.is_alive()]
        return len(self._gone)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End idle threads, abandon busy ones; runs under way fail with LocalProtocolError.

        Waits at most ``shutdown_timeout`` (0 unless given) for busy threads.
        """
        idle = _end(self._slots.close())
        with anyio.CancelScope(shield=True):
            jobs = [slot.job for slot in self._in_use if slot.job is not None and slot.busy]
            if jobs and self._shutdown_timeout > 0:
                await asyncio.wait([job.done for job in jobs], timeout=self._shutdown_timeout)
            for job in jobs:
                if not job.done.done():
                    job.done.set_exception(LocalProtocolError(CLOSED))
            while any(thread.is_alive() for thread in idle):  # noqa: ASYNC110 - they only return
                await asyncio.sleep(0)

    async def run(self, task: TrainTask) -> TrainOutcome:
        """Train once.

        Waits for ever for a free slot, then for user code. Cancelling returns at once: code in a
        thread cannot be stopped, so its result is dropped when it comes.

        Raises:
            TrainingFailed: user code raised, or returned no usable model.
            LocalProtocolError: the spawner is closed.
        """
        slot = await self._slots.acquire()
        self._in_use.add(slot)
        try:
            return await self._train(task, slot)
        finally:
            self._in_use.discard(slot)
            self._slots.release(self._usable(slot, task))
            if self._slots.closed:
                _end(self._slots.close())

    def _usable(self, slot: Slot, task: TrainTask) -> Slot:
        if not slot.busy:
            slot.job = None
            return slot
        self._states.forget(task.site)
        slot.end()
        self._gone.append(slot.thread)
        return Slot()

    async def _train(self, task: TrainTask, slot: Slot) -> TrainOutcome:
        came = await slot.do(partial(self._attempt, task, slot.pool, self._states.of(task.site)))
        while isinstance(came, Pending):
            with self._single:
                result = await finish(task.site.name, came.result)
            seconds = self._now() - came.started
            came = await slot.do(partial(conclude, task, result, slot.pool, seconds=seconds))
        return came

    def _attempt(
        self, task: TrainTask, pool: SlotPool, state: dict[str, object]
    ) -> TrainOutcome | Pending:
        model, site = prepare(task, pool, state)
        limit_torch_threads()  # never undone: the thread does nothing else
        started = self._now()
        result = call(task, model, site)
        if inspect.isawaitable(result):
            return Pending(result, started)
        return conclude(task, result, pool, seconds=self._now() - started)


def _end(free: Iterable[Slot]) -> list[threading.Thread]:
    """Let free slots end; return the threads that were ever started."""
    started = [slot for slot in free if slot.thread.ident is not None]
    for slot in started:
        slot.end()
    return [slot.thread for slot in started]
