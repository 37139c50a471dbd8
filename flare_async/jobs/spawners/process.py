"""Runs train functions in worker processes: parallel whatever they do, and safe from crashes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Self, TypeVar

import anyio
import anyio.to_thread
import structlog

from flare_async.errors import (
    ConfigError,
    LocalProtocolError,
    RemoteProtocolError,
    TensorFormatError,
    TrainingFailed,
)
from flare_async.jobs.spawners.answers import assignment_of, done_of, outcome_of
from flare_async.jobs.spawners.handle import Death, WorkerProcess
from flare_async.jobs.spawners.messages import decode, encode
from flare_async.jobs.spawners.platform import MemoryFile, usable_cores
from flare_async.jobs.spawners.shared import layout, read_tensors, write_tensors
from flare_async.jobs.spawners.slots import Slots
from flare_async.jobs.training import TrainOutcome, TrainTask
from flare_async.jobs.work import CodeReference, code_of
from flare_async.limits import MIB
from flare_async.transfer.tensors import TensorSet

__all__ = ["ProcessSpawner"]

CLOSED: Final = "the spawner was closed while the site trained"
ATTEMPTS: Final = 2
INLINE_BYTES: Final = MIB  # copying more than this would hold up the loop

ResultT = TypeVar("ResultT")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Placed:
    """A model in a nameless file; ``number`` tells workers that it is the same as before."""

    tensors: TensorSet
    number: int
    file: MemoryFile


class Seat:
    """One worker, and the file that it writes updates to."""

    __slots__ = ("_file", "turn", "worker")

    def __init__(self, shutdown_timeout: float) -> None:
        self.worker = WorkerProcess(shutdown_timeout)
        self.turn: Slots[Seat] = Slots([self])
        self._file: MemoryFile | None = None

    def update_file(self, tensors: TensorSet) -> MemoryFile:
        """Return a file with room for an update of that model, the former one if it fits."""
        size = layout(tensors.specs, {})[1]
        if self._file is None or self._file.nbytes != size:
            self._file = None
            self._file = MemoryFile(size)
        return self._file

    async def stop(self, *, gently: bool = False) -> None:
        """Stop the worker; the next run starts another."""
        try:
            await self.worker.stop(gently=gently)
        finally:
            self._file = None  # a child of the worker may still hold it


class ProcessSpawner:
    """One worker process a slot, started when first used, never forked from this one's state.

    A site always trains in the same worker, where its ``Site.state`` lives. A worker that dies, or
    whose run is cancelled, takes the state of its sites with it; the next run starts another. The
    task that was under way when a worker died is tried once more, with the same seeds: its code may
    have nothing to do with the death. A task whose second worker dies has failed.
    """

    def __init__(self, slots: int | None = None, *, shutdown_timeout: float = 5.0) -> None:
        self._count = max(1, usable_cores() - 1) if slots is None else slots
        if self._count < 1:
            raise ConfigError("slots", slots, "at least one is needed")
        self._seats = [Seat(shutdown_timeout) for _ in range(self._count)]
        self._placed: Placed | None = None
        self._models = 0
        self._placing = anyio.Lock()
        self._closed = False
        self.retried = 0  # tasks that were tried again because their worker had died

    @property
    def slots(self) -> int:
        """How many tasks may run at once."""
        return self._count

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that are running."""
        return [pid for seat in self._seats if (pid := seat.worker.pid) is not None]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End all workers; runs under way fail with LocalProtocolError.

        Idle workers are asked first, and may run their exit handlers. Each step (ask, terminate,
        kill) waits at most ``shutdown_timeout``.
        """
        self._closed = True
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                for seat in self._seats:
                    idle = seat.turn.close()
                    end = seat.stop if idle else seat.worker.end
                    group.start_soon(partial(end, gently=bool(idle)))
        self._placed = None

    async def run(self, task: TrainTask) -> TrainOutcome:
        """Train once in the site's worker.

        Waits for ever for the worker's turn, then for user code. Cancelling kills the worker:
        terminated, then killed after ``shutdown_timeout``.

        Raises:
            TrainingFailed: user code raised, returned no usable model, or ended its process.
            ConfigError: another process cannot find the train function, or its arguments or the
                site's options cannot travel.
            LocalProtocolError: the spawner is closed.
        """
        code = code_of(task.function)
        seat = self._seats[task.site.index % self._count]
        await seat.turn.acquire()
        try:
            return await self._train(task, code, seat)
        finally:
            if self._closed:
                await seat.stop()  # it may have started after aclose had looked
            seat.turn.release(seat)

    async def _train(self, task: TrainTask, code: CodeReference, seat: Seat) -> TrainOutcome:
        site, problem, details = task.site.name, "", ""
        for left in reversed(range(ATTEMPTS)):
            try:
                return await self._attempt(task, code, seat)
            except Death as death:
                problem, details = _obituary(death)
            self.retried += left > 0
            log.warning("worker_died", site=site, problem=problem, tries_left=left)
        raise TrainingFailed(site, problem, details)

    async def _attempt(self, task: TrainTask, code: CodeReference, seat: Seat) -> TrainOutcome:
        try:
            return await self._exchange(task, code, seat)
        except (TrainingFailed, ConfigError):
            raise  # the worker is well
        except (Death, RemoteProtocolError, TensorFormatError, OSError) as exc:
            await seat.stop()
            if self._closed:
                raise LocalProtocolError(CLOSED) from None
            if isinstance(exc, Death):
                raise
            problem = f"worker process: {exc}"
        except BaseException:
            await seat.stop()
            raise
        raise TrainingFailed(task.site.name, problem)

    async def _exchange(self, task: TrainTask, code: CodeReference, seat: Seat) -> TrainOutcome:
        await seat.worker.start()
        update = seat.update_file(task.tensors)
        placed = await self._place(task.tensors)
        message = encode(assignment_of(task, code, placed.number))
        fds = (placed.file.fileno(), update.fileno())
        done = done_of(task, decode(await seat.worker.exchange(message, fds)))
        tensors = None
        if task.kind == "train":
            read = partial(read_tensors, update, task.tensors.specs, done.aliases)
            tensors = await _off_loop(task.tensors.nbytes, read)
        return outcome_of(done, tensors)

    async def _place(self, tensors: TensorSet) -> Placed:
        """Return the model's file; all sites of a round share one model, so it is written once.

        Waits for one copy of the model.
        """
        async with self._placing:
            placed = self._placed
            if placed is None or placed.tensors is not tensors:
                file = MemoryFile(layout(tensors.specs, tensors.aliases)[1])
                await _off_loop(tensors.nbytes, partial(write_tensors, file, tensors))
                self._models += 1
                placed = self._placed = Placed(tensors, self._models, file)
            return placed


async def _off_loop(nbytes: int, copy: Callable[[], ResultT]) -> ResultT:
    """Copy in a thread what would hold up the loop; waits for the copy, bounded by its size."""
    if nbytes <= INLINE_BYTES:
        return copy()
    return await anyio.to_thread.run_sync(copy)


def _obituary(death: Death) -> tuple[str, str]:
    last = next((line for line in reversed(death.tail) if line.strip()), "")
    problem = f"its worker process {death.status}" + (f"; last output: {last}" if last else "")
    return problem, "\n".join(death.tail)
