"""One launched script as its client sees it: started, given tasks, watched, ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

import anyio
import structlog

from flare_async.errors import TrainingFailed
from flare_async.jobs.memory import is_due
from flare_async.jobs.scripts.desk import TaskFacts
from flare_async.jobs.scripts.script import Script
from flare_async.jobs.scripts.verdict import EndedBefore
from flare_async.jobs.spawners.shared import HasFileno
from flare_async.jobs.threads import run_to_end
from flare_async.jobs.trainers.launch import launch_of
from flare_async.jobs.trainers.lobby import Lobby
from flare_async.jobs.trainers.messages import Offered, Welcome
from flare_async.jobs.trainers.outcome import (
    Ending,
    failure_of_ending,
    failure_of_idling,
    failure_to_start,
    oom_kills,
)
from flare_async.jobs.trainers.output import Forwarder, Print
from flare_async.jobs.trainers.process import SupervisedProcess
from flare_async.jobs.trainers.talk import Current, Talk
from flare_async.jobs.trainers.watch import idle_for
from flare_async.jobs.training import TrainOutcome, TrainTask
from flare_async.limits import Limits

__all__ = ["Trainer"]

LAST_WORDS: Final = 1.0  # seconds for what a process said before it ended
log = structlog.get_logger()


class Trainer:
    """A script of one site in a process of its own, for a job or for a task.

    ``show`` prints a line of what the script prints. ``released`` is called, perhaps from a
    thread, when a result is not needed any more: the server has committed it, or does not want it.
    """

    def __init__(self, task: TrainTask, script: Script, limits: Limits, show: Print) -> None:
        info, work = task.site, task.work
        self._site = info.name
        self._script = script
        self._limits = limits
        self._welcome = Welcome(
            info.name,
            info.job_id,
            info.config,
            work.framework,
            work.transfer,
            script.cuda_empty_cache,
        )
        self._output = Forwarder(info.name, asyncio.get_running_loop().time, show)
        grace, rlimits = limits.shutdown_timeout, script.rlimits
        self._process = SupervisedProcess(self._output, grace, rlimits)
        self._talk: Talk | None = None
        self._forget: Callable[[], None] = _nothing
        self._number = 0
        self._oom_kills = 0
        self._ended = False
        self._gone = asyncio.Event()

    @property
    def is_usable(self) -> bool:
        """Whether it can be given another task."""
        leaving = self._talk is not None and self._talk.leaving
        return not self._ended and not leaving and not self._process.has_ended

    @property
    def pid(self) -> int | None:
        """The supervisor's process."""
        return self._process.pid

    async def start(self, lobby: Lobby, released: Callable[[], None]) -> None:
        """Start the script's command; whether it can be started shows in its first task.

        Cancelling leaves nothing that ``stop`` does not end.

        Raises:
            TrainingFailed: the system refuses another process.
        """
        self._talk = Talk(self._welcome, released)
        token = lobby.expect(self._talk.serve)
        self._forget = partial(lobby.forget, token)
        try:
            self._oom_kills = await run_to_end(oom_kills)
            launch = await run_to_end(partial(launch_of, self._script, lobby.address, token))
            await self._process.start(launch)
        except OSError as exc:
            problem = f"its trainer cannot be started: {exc}"
            raise TrainingFailed(self._site, problem) from exc

    async def train(self, task: TrainTask, file: HasFileno) -> TrainOutcome:
        """Give the script a task, whose model is in ``file``, and return its result.

        Waits for the script as long as it does something: bounded by ``trainer_idle_timeout``
        without. Cancelling leaves the task with it, so the trainer must be stopped.

        Raises:
            TrainingFailed: the process ended, did nothing, or broke the protocol.
            EndedBefore: it had done its tasks, and ended before it saw this one.
        """
        assert self._talk is not None
        done: asyncio.Future[TrainOutcome | TrainingFailed | EndedBefore]
        done = asyncio.get_running_loop().create_future()
        current = Current(task, self._offer(task), file, done)
        self._talk.announce(current)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._until_ended, current, self._talk)
                group.start_soon(self._until_idle, current, self._talk)
                await done
                group.cancel_scope.cancel()
        finally:
            self._talk.forget()
        outcome = done.result()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def finish(self) -> None:
        """Tell the script that there are no more tasks, give it its time to end, and end it.

        Waits at most ``shutdown_timeout``, the script's own or that of the limits, for each step;
        where it is being ended already, for that.
        """
        if self._ended:
            await self._gone.wait()
            return
        self._ended = True
        if self._talk is not None:
            self._talk.end()
        try:
            await self._until_over()
        finally:
            await self.stop()

    async def stop(self) -> None:
        """End the process and all that it started, at once; harmless more than once.

        Waits at most ``shutdown_timeout`` and a few seconds, also when it is cancelled.
        """
        self._ended = True
        self._forget()
        try:
            await self._process.stop()
        finally:
            if self._talk is not None:
                self._talk.close()
            self._gone.set()

    async def gone(self) -> None:
        """Wait until a ``stop`` or ``finish`` that somebody else has begun is through."""
        await self._gone.wait()

    async def _until_over(self) -> None:
        patience = max(self._script.shutdown_timeout, self._limits.shutdown_timeout)
        if not self._process.has_ended:
            with anyio.move_on_after(patience):
                await self._process.ended.wait()
        if self._process.status:
            log.warning("trainer_status", site=self._site, status=self._process.status)

    def _offer(self, task: TrainTask) -> Offered:
        self._number += 1
        info, tensors = task.site, task.tensors
        facts = TaskFacts(
            self._number, task.kind, info.round_number, info.total_rounds, dict(task.meta)
        )
        trims = is_due(info.round_number, task.work.memory_gc_rounds, tensors.nbytes)
        return Offered(facts, tensors.specs, dict(tensors.aliases), trims)

    async def _until_ended(self, current: Current, talk: Talk) -> None:
        process = self._process
        await process.ended.wait()
        if process.problem:
            command = self._script.command_line()[0]
            current.settle(failure_to_start(self._site, command, process.problem))
            return
        with anyio.move_on_after(LAST_WORDS):
            await talk.last_words()  # the result may have come before the end
            await process.drained()
        if talk.missed(current):
            current.settle(EndedBefore())
            return
        kills = await run_to_end(oom_kills)
        lines, oom = self._output.last_lines(), kills > self._oom_kills
        ending = Ending(process.status, lines, oom_killed=oom, connected=talk.greeted)
        current.settle(failure_of_ending(self._site, ending))

    async def _until_idle(self, current: Current, talk: Talk) -> None:
        seconds, pid, output = self._limits.trainer_idle_timeout, self._process.pid, self._output
        if pid is None:
            return
        await idle_for(seconds, pid, lambda: talk.signs + output.received)
        current.settle(failure_of_idling(self._site, seconds, output.last_lines()))


def _nothing() -> None:
    """Do nothing: there is no token yet."""
