"""Tasks without rounds: whoever is done gets the next one, and updates come when they come.

Everything is owned by a block, as a round's is: leaving it takes back what is under way. A task is
a round of one site, so a lease, a receipt or a revocation is what it is there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias

import anyio

from flare_async.errors import QuorumNotReached
from flare_async.net.callbacks import start_soon
from flare_async.net.groups import single_error
from flare_async.roles.machine import RoundPlan
from flare_async.roles.messages import Scalar
from flare_async.roles.outcome import SiteRecord
from flare_async.roles.round import Updates
from flare_async.roles.setting import RoundObserver, RoundSetting, RoundTask, Update
from flare_async.roles.task_stream_machine import StreamMachine, StreamPlan
from flare_async.roles.task_stream_versions import Versions
from flare_async.transfer.admission import Admission
from flare_async.transfer.reducer import Reducer, SteppedReducer
from flare_async.transfer.tensors import TensorSet

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from flare_async.roles.server import Server

__all__ = ["NextTask", "StreamSetting", "StreamTask", "StreamUpdate", "UpdateStream"]


@dataclass(frozen=True, slots=True)
class StreamTask:
    """What a site is asked to do next, from ``version`` of the model."""

    task: RoundTask
    model: TensorSet
    version: int
    reducer: Reducer | None = None  # of this task alone; without one the update has its tensors


NextTask: TypeAlias = Callable[[str], StreamTask | None]
Weigh: TypeAlias = Callable[[str, Mapping[str, Scalar]], float]


@dataclass(frozen=True, slots=True)
class StreamSetting:
    """All that a stream is made of; ``timeout`` is how many seconds a task may take."""

    server: Server
    plan: StreamPlan
    next_task: NextTask
    observer: RoundObserver
    timeout: float | None = None
    weigh: Weigh | None = None
    tee: Callable[[RoundTask, TensorSet, Reducer], Reducer] | None = None


@dataclass(frozen=True, slots=True)
class StreamUpdate:
    """What a site brought, from which version of the model, and how its part ended.

    ``number`` and ``reducer`` are its task's. ``commit`` tells the site that it will not be asked
    for it again; leaving the stream's block does so for all that have arrived.
    """

    update: Update
    version: int
    number: int
    reducer: Reducer | None
    record: SiteRecord
    commit: Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Observer:
    """Tells the observer of versions in place of a site's own numbers."""

    inner: RoundObserver
    version: int

    def site_started(self, number: int, site: str) -> None:
        """Pass on that a site was given its task."""
        self.inner.site_started(self.version, site)

    def site_finished(self, number: int, record: SiteRecord) -> None:
        """Pass on how a site's part ended."""
        self.inner.site_finished(self.version, record)


class UpdateStream:
    """The updates of sites that work on their own, in the order of arrival; iterate once.

    A site whose update was returned is asked again when the next one is waited for, by
    ``next_task(site)``; None leaves it idle until then. The stream ends when nobody works and
    nobody is given anything. A site that is gone is asked again when it is back; if nobody else
    works it is waited for, for ``session_grace``. ``await`` waits for others as long as their
    sessions live, or for ``timeout``; cancelling leaves everything as it is.

    Raises (when iterating):
        QuorumNotReached: too few sites are left that have not failed again and again.
    """

    def __init__(self, setting: StreamSetting, tasks: TaskGroup) -> None:
        self._setting = setting
        self._tasks = tasks
        self._machine = StreamMachine(setting.plan)
        self.versions = Versions(setting.server, setting.plan.sites)
        self._arrived: deque[tuple[str, StreamUpdate]] = deque()
        self._working: dict[str, tuple[StreamTask, Updates]] = {}
        self._taken: dict[int, Updates] = {}
        self._returned: str | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._begun = 0
        self.failures: dict[str, str] = {}
        self.lost: list[SiteRecord] = []  # of tasks that brought no update

    def __enter__(self) -> Self:
        start_soon(self._tasks, self._watch, name="sites of a stream")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Take back what is under way; commit what was taken, unless an exception leaves."""
        for _, updates in self._working.values():
            updates.__exit__(kind, exc, tb)
        for updates in self._taken.values():
            updates.__exit__(kind, exc, tb)
        self._taken = {}

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> tuple[str, StreamUpdate]:
        """Return the next update."""
        returned, self._returned = self._returned, None
        self._machine.resume(() if returned is None else (returned,))
        while True:
            if not self._arrived:
                self._fill()
            if self._arrived:
                site, update = self._arrived.popleft()
                self._returned = site
                return site, update
            if self._machine.is_short:
                raise self._short()
            if not self._machine.busy:
                if self._machine.wake():  # whoever is here may wait for who rests
                    continue
                if len(self._present()) == len(self._machine.idle()):
                    raise StopAsyncIteration
            await self._wait()

    async def _wait(self) -> None:
        # Who works has a session that bounds the wait; who is gone has its grace to come back.
        grace = self._setting.server.context.limits.session_grace
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            with anyio.move_on_after(None if self._machine.busy else grace) as scope:
                await self._waiter
        finally:
            self._waiter = None
        if scope.cancelled_caught:
            here = len(self._present())
            if here < self._setting.plan.quorum:
                raise self._too_few(here, f"are connected after {grace:.3g} s")
            raise StopAsyncIteration

    async def _watch(self) -> None:
        """Look again whenever a site comes or goes; ends with the block."""
        while True:
            await self._setting.server.directory.changed()
            self._wake()

    def _present(self) -> tuple[str, ...]:
        """Return the idle sites that are connected."""
        sites = self._setting.server.sites
        return tuple(site for site in self._machine.idle() if site in sites)

    def working(self) -> Mapping[str, int]:
        """Return the version that each site works on."""
        return {site: task.version for site, (task, _) in self._working.items()}

    def take_back(self, site: str) -> None:
        """Revoke a site's task; harmless when it has none. It may get another one."""
        found = self._working.get(site)
        if found is not None:
            found[1].__exit__(None, None, None)

    def _fill(self) -> None:
        idle, room = self._present(), self._machine.room
        if not room or self._machine.is_short:
            return
        if room < len(idle):
            idle = self._drawn(idle)
        for site in idle:
            if not room:
                return
            task = self._setting.next_task(site)
            if task is not None:
                self._begin(site, task)
                room -= 1

    def _drawn(self, idle: tuple[str, ...]) -> tuple[str, ...]:
        draw = self._setting.server.context.random.once(f"site of task {self._begun}")
        return tuple(draw.sample(idle, len(idle)))

    def _begin(self, site: str, task: StreamTask) -> None:
        self._begun += 1
        self._machine.begin(site)
        start_soon(self._tasks, self._follow, site, task, self._begun, name=f"task of {site}")

    async def _follow(self, site: str, task: StreamTask, serial: int) -> None:
        setting = self._of(site, task)
        try:
            with single_error():
                async with anyio.create_task_group() as tasks:
                    updates = Updates(setting, tasks)
                    self._working[site] = task, updates
                    updates.start()
                    await self._outcome(site, task, updates, serial)
                    tasks.cancel_scope.cancel()
        finally:
            self._working.pop(site, None)
            self.versions.release(task.version)
        self._wake()

    async def _outcome(self, site: str, task: StreamTask, updates: Updates, serial: int) -> None:
        try:
            _, update = await anext(updates)
        except QuorumNotReached:
            self.failures[site] = updates.records[site].reason
            self.lost.append(updates.records[site])
            updates.__exit__(None, None, None)
            self._machine.fail(site)
        except StopAsyncIteration:  # taken back
            self.lost.append(updates.records[site])
            self._machine.take_back(site)
        else:
            self._taken[serial] = updates
            self.failures.pop(site, None)
            arrived = StreamUpdate(
                update=update,
                version=task.version,
                number=task.task.number,
                reducer=task.reducer,
                record=updates.records[site],
                commit=partial(self._commit, serial),
            )
            self._arrived.append((site, arrived))
            self._machine.arrive(site)

    def _commit(self, serial: int) -> None:
        updates = self._taken.pop(serial, None)
        if updates is not None:
            updates.__exit__(None, None, None)

    def _of(self, site: str, task: StreamTask) -> RoundSetting:
        reducer, tee = task.reducer, self._setting.tee
        if reducer is not None and tee is not None:
            reducer = tee(task.task, task.model, reducer)
        return RoundSetting(
            server=self._setting.server,
            task=task.task,
            plan=RoundPlan((site,), 1, 1, self._setting.timeout),
            offer=self.versions.hold(task.version, task.model, site),
            admission=Admission(task.model.specs, aliases=task.model.aliases),
            observer=_Observer(self._setting.observer, task.version),
            reducer=reducer,
            stepped=reducer if isinstance(reducer, SteppedReducer) else None,
            weigh=self._setting.weigh,
        )

    def _short(self) -> QuorumNotReached:
        tries = self._setting.plan.failures
        return self._too_few(self._machine.left, f"have not failed {tries} times in a row")

    def _too_few(self, left: int, how: str) -> QuorumNotReached:
        plan, arrived = self._setting.plan, self._machine.arrived
        problem = f"after {arrived} updates {left} of {len(plan.sites)} sites {how}"
        problem = f"{problem}, {plan.quorum} are needed"
        return QuorumNotReached(arrived, left, plan.quorum, self.failures, problem=problem)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
