"""Runs training scripts in threads of this process, one a site for as long as it has tasks."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Self, TypeAlias

import anyio
import structlog

from flare_async.errors import ConfigError, ScriptStopped, TrainerIdle, TrainingFailed
from flare_async.jobs.scripts.code import ScriptCodes
from flare_async.jobs.scripts.desk import Place
from flare_async.jobs.scripts.idle import IdleWatch
from flare_async.jobs.scripts.live import LiveScript
from flare_async.jobs.scripts.surroundings import Surroundings
from flare_async.jobs.scripts.thread_desk import Errand
from flare_async.jobs.scripts.verdict import EndedBefore, is_normal, verdict
from flare_async.jobs.site import SiteInfo
from flare_async.jobs.spawners.platform import usable_cores
from flare_async.jobs.spawners.slots import Slots
from flare_async.jobs.training import TrainOutcome, TrainTask
from flare_async.limits import Limits

__all__ = ["ScriptThreads"]

Key: TypeAlias = tuple[str, str]
log = structlog.get_logger()


class ScriptThreads:
    """A spawner for ``Work(script=...)``: the script starts with the site's first task.

    ``slots`` scripts compute at once (default: as many as there are cores); a script holds a slot
    from the moment it is given a task until it has handed the result in, not while it waits for
    the next. Threads are daemons: one that never comes back keeps nobody waiting. A run that is
    cancelled leaves its thread behind: the script's next call raises ``ScriptStopped``, and the
    site's next task starts the script anew.

    A script that neither computes nor calls anything for ``trainer_idle_timeout`` has failed.
    Where the system does not tell a thread's processor time (macOS) that is not watched.
    """

    def __init__(self, slots: int | None = None, limits: Limits | None = None) -> None:
        self._count = usable_cores() if slots is None else slots
        if self._count < 1:
            raise ConfigError("slots", slots, "at least one is needed")
        self._slots: Slots[None] = Slots([None] * self._count)
        self._limits = Limits() if limits is None else limits
        self._codes = ScriptCodes()
        self._around = Surroundings()
        self._live: dict[Key, LiveScript] = {}
        self._late: dict[Key, TrainingFailed] = {}
        self._all: set[LiveScript] = set()  # whose threads run code of the script
        self._ending: list[threading.Thread] = []  # that only return

    @property
    def slots(self) -> int:
        """How many scripts may compute at once."""
        return self._count

    @property
    def abandoned(self) -> int:
        """How many threads still run code whose result nobody waits for."""
        live = set(self._live.values())
        return len(self._all - live)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose(stop=kind is not None)

    async def run(self, task: TrainTask) -> TrainOutcome:
        """Have a site's script do one task.

        Waits for ever for a free slot, then for the script. Cancelling returns at once.

        Raises:
            TrainingFailed: the script raised, exited, ended without a result, or hangs.
            LocalProtocolError: the spawner is closed.
        """
        await self._slots.acquire()
        try:
            while True:
                live = self._live_for(task)
                errand = live.assign(task)
                try:
                    return await self._outcome(live, errand)
                except EndedBefore:
                    continue
        finally:
            self._slots.release(None)

    async def _outcome(self, live: LiveScript, errand: Errand) -> TrainOutcome:
        """Wait for the result; bounded by the script's idleness. Cancelling revokes the task."""
        watch = IdleWatch(self._limits.trainer_idle_timeout)
        loop = asyncio.get_running_loop()
        try:
            while not errand.done.done():
                if watch.is_idle(loop.time(), live.cpu_seconds(), live.desk.calls):
                    raise self._hanging(live, errand)
                await asyncio.wait([errand.done], timeout=watch.interval)
        except asyncio.CancelledError:
            if not live.revoke(errand):
                self._forget(live)
            raise
        finally:
            live.settled(errand)
        return errand.done.result()

    def _hanging(self, live: LiveScript, errand: Errand) -> TrainingFailed:
        standing = live.standing()
        errand.seen = True  # whatever it does next, it is not to go on
        live.revoke(errand)
        self._forget(live)
        bound = self._limits.trainer_idle_timeout
        problem = f"the script did nothing for {bound:g} s (trainer_idle_timeout): {standing}"
        return TrainerIdle(live.place.site, problem)

    def _live_for(self, task: TrainTask) -> LiveScript:
        info = task.site
        key = (info.job_id, info.name)
        late = self._late.pop(key, None)
        if late is not None:
            raise late
        live = self._live.get(key)
        if live is None:
            live = self._live[key] = self._start(task, info)
        return live

    def _start(self, task: TrainTask, info: SiteInfo) -> LiveScript:
        script = task.work.script
        if script is None or script.external:
            raise ConfigError("train_script", script, "is no script that runs in a thread")
        self._around.prepare(script.path)
        place = Place(info.name, info.job_id, config=info.config)
        live = LiveScript(script, place, task.log, self._ended)
        try:
            live.start(self._codes)
        except RuntimeError as exc:
            hint = (
                "simulate fewer sites, or raise what limits threads (ulimit -u, pids of a cgroup)"
            )
            raise TrainingFailed(info.name, f"no thread for its script: {exc}; {hint}") from exc
        self._all.add(live)
        live.done.add_done_callback(lambda _: self._over(live))
        return live

    def _over(self, live: LiveScript) -> None:
        self._all.discard(live)
        self._ending = [thread for thread in self._ending if thread.is_alive()]
        self._ending.append(live.thread)

    def _ended(self, live: LiveScript, error: BaseException | None) -> None:
        """Take note of the end of a script; an error between two tasks is told with the next."""
        self._forget(live)
        if live.desk.is_stopped or is_normal(error) or isinstance(error, ScriptStopped):
            return
        failed = verdict(live.place.site, error, str(live.script.path))
        self._late[live.place.job, live.place.site] = failed
        log.warning("script_failed_between_tasks", site=live.place.site, error=failed.problem)

    def _forget(self, live: LiveScript) -> None:
        key = (live.place.job, live.place.site)
        if self._live.get(key) is live:
            del self._live[key]

    async def aclose(self, *, stop: bool = False) -> None:
        """Let the scripts find that the job has ended; with ``stop`` their next call raises.

        Waits at most ``shutdown_timeout`` for scripts that end, with ``stop`` only for those that
        have no task. Others are abandoned and named in the log.
        """
        self._slots.close()
        with anyio.CancelScope(shield=True):
            await self._dismiss(stop=stop)
        self._around.restore()

    async def _dismiss(self, *, stop: bool) -> None:
        going = list(self._all)
        awaited = [live for live in going if live.is_idle or not (stop or live.desk.is_stopped)]
        for live in going:
            live.abandon()
        for live in going:
            if stop or live not in self._live.values():
                live.desk.stop()
            else:
                live.desk.end()
        if awaited:
            patience = max(
                self._limits.shutdown_timeout, *(live.script.shutdown_timeout for live in awaited)
            )
            await asyncio.wait([live.done for live in awaited], timeout=patience)
        for live in awaited:
            if not live.done.done():
                log.warning("script_abandoned", site=live.place.site, at=live.standing())
                live.desk.stop()
        await asyncio.sleep(0)  # whoever is done has said so by now
        self._live.clear()
        while any(thread.is_alive() for thread in self._ending):  # noqa: ASYNC110 - they only return
            await asyncio.sleep(0)
