"""What is said with the processes of one launched script: rank 0 works, the others follow."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import structlog

from flare_async.errors import FlareError, RemoteProtocolError, TrainingFailed
from flare_async.jobs.scripts.verdict import EndedBefore
from flare_async.jobs.spawners.shared import HasFileno, layout
from flare_async.jobs.threads import run_to_end
from flare_async.jobs.trainers.connection import Connection
from flare_async.jobs.trainers.messages import (
    Closing,
    Ended,
    Logged,
    Message,
    Offered,
    Refused,
    Result,
    Seen,
    Taken,
    Welcome,
)
from flare_async.jobs.trainers.outcome import failure_of_leaving
from flare_async.jobs.trainers.shared import Handed, SharedTensors, is_sealed, own_copy
from flare_async.jobs.training import TrainOutcome, TrainTask
from flare_async.model import ParamsType
from flare_async.transfer.tensors import TensorSet

__all__ = ["Current", "Talk"]

TOLD: Final = 1024  # tasks that a follower which comes late is told of
TWICE: Final = (
    "another process of this script is rank 0: give each its own, init(rank=...); where a script "
    'starts processes itself, init() belongs below if __name__ == "__main__"'
)
AGAIN: Final = (
    "its script was started again in the middle of a task, whose model it may have changed"
)
log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class Current:
    """A task under way, its model's file, and what has come of it."""

    task: TrainTask
    offered: Offered
    file: HasFileno
    done: asyncio.Future[TrainOutcome | TrainingFailed | EndedBefore]

    @property
    def number(self) -> int:
        """Counts the tasks of one launch from 1."""
        return self.offered.facts.number

    def settle(self, result: TrainOutcome | TrainingFailed | EndedBefore) -> None:
        """Note what came of it; the first one counts."""
        if not self.done.done():
            self.done.set_result(result)


class Talk:
    """The connections of one launch. ``signs`` counts messages, ``greeted`` is set by rank 0.

    ``seen`` is the number of the latest task that the script knows of; one that is ``leaving``
    takes no more. ``released`` is called, perhaps from a thread, when nobody holds a result's
    source any more.
    """

    def __init__(self, welcome: Welcome, released: Callable[[], None]) -> None:
        self._welcome = welcome
        self._released = released
        self._first: Connection | None = None
        self._others: set[Connection] = set()
        self._current: Current | None = None
        self._told: deque[Offered] = deque(maxlen=TOLD)
        self._log_task: TrainTask | None = None
        self._over = False
        self._ranks: set[int] = set()  # that have been here
        self.signs = 0
        self.seen = 0
        self.greeted = False
        self.leaving = False

    def announce(self, current: Current) -> None:
        """Give rank 0 a task, and tell the others of it; those who come later too."""
        self._current = current
        # Records that come between two tasks are those of the former one.
        self._log_task = without_model(current.task)
        told = replace(current.offered, specs=(), aliases={})
        self._told.append(told)
        if self._first is not None:
            self._first.post(current.offered, current.file)
        for connection in self._others:
            connection.post(told)

    def forget(self) -> None:
        """Let go of the task; a result for it is refused from now on."""
        self._current = None

    def end(self) -> None:
        """Tell everybody, also who comes later, that there are no more tasks."""
        self._over = True
        for connection in self._connections():
            connection.post(Ended())

    def close(self) -> None:
        """End every connection."""
        self.forget()
        for connection in self._connections():
            connection.close()

    async def last_words(self) -> None:
        """Wait until rank 0 has said all that it ever will; its process has ended."""
        if self._first is not None:
            await self._first.over.wait()

    async def serve(self, connection: Connection, rank: int) -> None:
        """Talk with a process that has shown its token, until its connection ends.

        Waits for ever: the process may train as long as it needs.

        Raises:
            RemoteProtocolError: it said what is no message of ours.
        """
        if rank == 0 and self._first is not None:
            log.warning("trainer_twice", site=self._welcome.site)
            await connection.refuse(TWICE)
            return
        connection.post(self._welcome)
        self._attach(connection, rank)
        if self._over:
            connection.post(Ended())
        try:
            await connection.run(partial(self._heed, rank))
        except RemoteProtocolError as exc:
            self._broke(rank, exc)
            raise
        finally:
            self._others.discard(connection)
            if self._first is connection:
                self._first = None

    def _attach(self, connection: Connection, rank: int) -> None:
        again = rank in self._ranks
        self._ranks.add(rank)
        if rank == 0:
            self._first, self.greeted = connection, True
            self._give_current(connection)
        else:
            self._others.add(connection)
            # A process that was started again missed nothing: its group begins with this task.
            for told in list(self._told)[-1:] if again else self._told:
                connection.post(told)

    def _give_current(self, connection: Connection) -> None:
        current = self._current
        if current is None:
            return
        if self.seen == current.number and self._welcome.transfer is ParamsType.FULL:
            current.settle(TrainingFailed(self._welcome.site, AGAIN))
        else:
            connection.post(current.offered, current.file)

    def _connections(self) -> list[Connection]:
        first = [] if self._first is None else [self._first]
        return [*first, *self._others]

    def _broke(self, rank: int, error: RemoteProtocolError) -> None:
        if rank == 0 and self._current is not None:
            problem = f"its trainer broke the protocol: {error}"
            self._current.settle(TrainingFailed(self._welcome.site, problem))

    async def _heed(self, rank: int, message: Message, file: Handed | None) -> None:
        self.signs += 1
        first = self._first
        if rank != 0 or first is None:
            return  # who follows has nothing to say
        if isinstance(message, Logged):
            self._log(message)
        elif isinstance(message, Seen):
            self.seen = message.number
        elif isinstance(message, Result):
            first.post(await self._answer(message, file))
        elif isinstance(message, Closing):
            self._leave()

    def _leave(self) -> None:
        self.leaving = True
        current = self._current
        if current is not None:
            missed = self.missed(current)
            current.settle(EndedBefore() if missed else failure_of_leaving(self._welcome.site))

    def missed(self, current: Current) -> bool:
        """Return whether a script that had done its tasks does not know of this one."""
        return current.number > 1 and self.seen < current.number

    def _log(self, logged: Logged) -> None:
        if logged.dropped:
            log.warning("trainer_logs_dropped", site=self._welcome.site, dropped=logged.dropped)
        task = self._log_task
        if task is not None and task.log is not None:
            task.log(logged.record)

    async def _answer(self, result: Result, file: Handed | None) -> Taken | Refused:
        current = self._current
        if current is None or current.done.done() or current.number != result.number:
            return Refused(result.number, "this task is not under way any more")
        tensors = None
        try:
            if current.task.kind != "validate":
                tensors = await self._tensors(current.task.tensors, result, file)
        except (FlareError, OSError, ValueError) as exc:
            return Refused(result.number, f"the client cannot use the result: {exc}")
        said = (result.metrics, result.meta, result.seconds)
        current.settle(TrainOutcome(tensors, result.params_type, *said))
        return Taken(result.number)

    async def _tensors(
        self, model: TensorSet, result: Result, file: Handed | None
    ) -> SharedTensors:
        if file is None:
            raise RemoteProtocolError("trainer_file", "no descriptor came with a result")
        size = layout(model.specs, result.aliases)[1]
        file.check(size)
        kept: HasFileno = file
        if not is_sealed(file):  # the system has no seals: nobody may write to what is read
            kept = await run_to_end(partial(own_copy, file, size))
        tensors = SharedTensors.over(kept, model.specs, result.aliases)
        tensors.release = self._released
        return tensors


def without_model(task: TrainTask) -> TrainTask:
    """Return the same task without its model's memory."""
    return replace(task, tensors=TensorSet((), {}, {}))
