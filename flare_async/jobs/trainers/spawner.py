"""Runs training scripts in supervised processes of their own, one a site."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import anyio
import structlog

from flare_async.errors import ConfigError, LocalProtocolError, TrainingFailed
from flare_async.jobs.scripts.script import Script
from flare_async.jobs.scripts.verdict import EndedBefore
from flare_async.jobs.spawners.platform import usable_cores
from flare_async.jobs.spawners.shared import HasFileno, layout, write_tensors
from flare_async.jobs.spawners.slots import Slots
from flare_async.jobs.threads import run_to_end
from flare_async.jobs.trainers.lobby import Lobby
from flare_async.jobs.trainers.output import Print, print_line
from flare_async.jobs.trainers.shared import SharedTensors, new_file, seal
from flare_async.jobs.trainers.sink import SharedSink
from flare_async.jobs.trainers.trainer import Trainer
from flare_async.jobs.training import TrainOutcome, TrainTask
from flare_async.limits import Limits
from flare_async.net.callbacks import start_soon
from flare_async.transfer.tensors import TensorSet

if TYPE_CHECKING:
    from anyio.abc import TaskGroup, TaskStatus

__all__ = ["TrainerProcesses"]

log = structlog.get_logger()
CLOSED: Final = "the spawner was closed while the site trained"


class Seat:
    """One site of one job: its trainer, and the lock of whoever uses it."""

    __slots__ = ("lock", "trainer")

    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.trainer: Trainer | None = None


class TrainerProcesses:
    """Runs each site's script in a process of its own, for the whole job or a task at a time.

    ``slots`` bounds how many of them train at once; a script that waits for its next task has
    none. A run that is cancelled, or fails, ends the site's process and all that it started; the
    site's next task starts another. A script that ended well between two tasks is started anew,
    too. ``show`` gets each line that a script prints.
    """

    def __init__(
        self, slots: int | None = None, *, limits: Limits | None = None, show: Print = print_line
    ) -> None:
        self._count = usable_cores() if slots is None else slots
        if self._count < 1:
            raise ConfigError("slots", slots, "at least one is needed")
        self._limits = limits or Limits()
        self._show = show
        self._slots = Slots(range(self._count))
        self._seats: dict[tuple[str, str], Seat] = {}
        self._stack = AsyncExitStack()
        self._tasks: TaskGroup | None = None
        self._lobby: Lobby | None = None
        self._ending: set[Trainer] = set()
        self._closed = False

    @property
    def slots(self) -> int:
        """How many tasks may run at once."""
        return self._count

    @property
    def pids(self) -> list[int]:
        """The process ids of the supervisors that are running."""
        trainers = (seat.trainer for seat in self._seats.values())
        return [trainer.pid for trainer in trainers if trainer is not None and trainer.pid]

    def sink(self, memory_bytes: int | None) -> SharedSink:
        """Return what a model is to be pulled into, so that nobody needs to copy it."""
        return SharedSink(memory_bytes=memory_bytes)

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        group = await self._stack.enter_async_context(anyio.create_task_group())
        tasks: TaskGroup = await group.start(self._keep)
        self._tasks = tasks
        self._lobby = await Lobby(tasks, self._limits).open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose(stop=kind is not None)
        # Without the block's own error, which the group would wrap.
        await self._stack.__aexit__(None, None, None)

    async def _keep(self, *, task_status: TaskStatus[TaskGroup]) -> None:
        # A group of its own, which aclose can cancel without whoever is inside the block.
        async with anyio.create_task_group() as tasks:
            task_status.started(tasks)
            await anyio.sleep_forever()

    async def aclose(self, *, stop: bool = False) -> None:
        """End all processes; runs under way fail with LocalProtocolError.

        Those that wait for a task are told, and have ``shutdown_timeout`` to end by themselves;
        with ``stop`` they are ended at once, too.
        """
        self._closed = True
        self._slots.close()
        with anyio.CancelScope(shield=True):
            try:
                await self._dismiss(stop=stop)
            finally:
                if self._lobby is not None:
                    await self._lobby.close()
                if self._tasks is not None:
                    self._tasks.cancel_scope.cancel()

    async def _dismiss(self, *, stop: bool) -> None:
        async with anyio.create_task_group() as group:
            for seat in self._seats.values():
                if seat.trainer is not None:
                    at_once = stop or seat.lock.locked()
                    group.start_soon(seat.trainer.stop if at_once else seat.trainer.finish)
            for trainer in self._ending:
                group.start_soon(trainer.finish)

    async def run(self, task: TrainTask) -> TrainOutcome:
        """Run one task in the site's process, which is started if there is none.

        Waits for ever for the site's turn and a slot, then for the script, as long as it does
        something. Cancelling ends the process first: terminated, killed after
        ``shutdown_timeout``.

        Raises:
            TrainingFailed: the script ended, hung, or could not be started; the subclass says how.
            ConfigError: the task names no script for a process.
            LocalProtocolError: the spawner is closed.
        """
        script = task.work.script
        if script is None or not script.external:
            raise ConfigError("script", script, "no script for a process of its own was given")
        seat = self._seats.setdefault((task.site.job_id, task.site.name), Seat())
        async with seat.lock:
            slot = await self._slots.acquire()
            try:
                return await self._train(task, script, seat)
            finally:
                self._slots.release(slot)

    async def _train(self, task: TrainTask, script: Script, seat: Seat) -> TrainOutcome:
        file = await _file_of(task.tensors)
        try:
            outcome = await self._trained(task, script, seat, file)
        except TrainingFailed:
            self._drop(seat)
            if self._closed:
                raise LocalProtocolError(CLOSED) from None
            raise
        except BaseException:
            await self._stop(seat)
            raise
        if not script.launch_once and outcome.tensors is None:
            self._drop(seat, gently=True)
        return outcome

    async def _trained(
        self, task: TrainTask, script: Script, seat: Seat, file: HasFileno
    ) -> TrainOutcome:
        while True:
            trainer = await self._ready(task, script, seat)
            try:
                return await trainer.train(task, file)
            except EndedBefore:  # which the first task of a process never raises
                log.info("trainer_started_anew", site=task.site.name)

    async def _stop(self, seat: Seat) -> None:
        """End a site's process and wait for that; whoever cancels twice ends the wait only."""
        trainer = seat.trainer
        if trainer is None:
            return
        if self._closed:
            await trainer.stop()
            seat.trainer = None
            return
        self._drop(seat)
        with anyio.CancelScope(shield=True):
            await trainer.gone()

    async def _ready(self, task: TrainTask, script: Script, seat: Seat) -> Trainer:
        if seat.trainer is not None and not (script.launch_once and seat.trainer.is_usable):
            trainer, seat.trainer = seat.trainer, None
            await trainer.finish()
        if seat.trainer is None:
            lobby = self._opened()
            seat.trainer = trainer = Trainer(task, script, self._limits, self._show)
            await trainer.start(lobby, self._released(seat, trainer, script))
            self._opened()  # aclose may have looked before it was started
        return seat.trainer

    def _released(self, seat: Seat, trainer: Trainer, script: Script) -> Callable[[], None]:
        """Return what ends a process of one task when nobody needs its result any more."""
        loop = asyncio.get_running_loop()

        def end() -> None:
            if seat.trainer is trainer and not self._closed and not seat.lock.locked():
                self._drop(seat, gently=True)

        def released() -> None:
            if not script.launch_once and not loop.is_closed():
                loop.call_soon_threadsafe(end)

        return released

    def _drop(self, seat: Seat, *, gently: bool = False) -> None:
        """End a site's process without waiting; ``aclose`` waits."""
        trainer, seat.trainer = seat.trainer, None
        if trainer is not None and self._tasks is not None:
            self._ending.add(trainer)
            start_soon(self._tasks, self._end, trainer, gently, name="end a trainer")

    async def _end(self, trainer: Trainer, gently: bool) -> None:
        try:
            await (trainer.finish() if gently else trainer.stop())
        finally:
            self._ending.discard(trainer)

    def _opened(self) -> Lobby:
        if self._lobby is None or self._closed:
            raise LocalProtocolError("the spawner is closed: it runs only inside its async with")
        return self._lobby


async def _file_of(tensors: TensorSet) -> HasFileno:
    """Return the file that a model is in; one that came as memory is written to a new one.

    Waits for that copy, in a thread.
    """
    if isinstance(tensors, SharedTensors):
        return tensors.file
    return await run_to_end(partial(_write, tensors))


def _write(tensors: TensorSet) -> HasFileno:
    file = new_file(layout(tensors.specs, tensors.aliases)[1])
    write_tensors(file, tensors)
    seal(file, content=False)
    return file
