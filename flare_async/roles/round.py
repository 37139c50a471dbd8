"""One round: leases out, updates in; everything it started ends with its block."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import anyio

from flare_async.errors import FlareError, QuorumNotReached
from flare_async.roles import machine as decisions
from flare_async.roles.lease import Lease
from flare_async.roles.machine import RoundMachine, RoundPlan
from flare_async.roles.messages import Scalar
from flare_async.roles.outcome import SiteRecord, SiteStatus
from flare_async.transfer.tensors import TensorSet

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from flare_async.roles.server import Server
    from flare_async.transfer.reducer import Reducer, SteppedReducer
    from flare_async.transfer.shelf import Offer

__all__ = ["RoundObserver", "RoundTask", "Update", "Updates"]


@dataclass(frozen=True, slots=True)
class RoundTask:
    """What every site of a round is asked to do."""

    job: str
    number: int
    total: int
    name: str = "train"
    meta: Mapping[str, Scalar] = field(default_factory=dict)
    keep_until: str = "committed"


@dataclass(frozen=True, slots=True)
class Update:
    """What one site brought; ``tensors`` is None where a reducer took them or none were sent."""

    site: str
    params_type: str
    metrics: Mapping[str, float]
    meta: Mapping[str, Scalar]
    weight: float
    seconds: float
    received: Mapping[str, float] = field(default_factory=dict)
    nbytes: int = 0
    tensors: TensorSet | None = None


class RoundObserver(Protocol):
    """Is told of a round's sites as it happens; must not block."""

    def site_started(self, number: int, site: str) -> None:
        """Take note that a site was given its task."""

    def site_finished(self, number: int, record: SiteRecord) -> None:
        """Take note of how a site's part ended."""


@dataclass(frozen=True, slots=True)
class RoundSetting:
    """All that a round is made of."""

    server: Server
    task: RoundTask
    plan: RoundPlan
    offer: Offer
    observer: RoundObserver
    reducer: Reducer | None = None
    stepped: SteppedReducer | None = None  # the same reducer, if its arithmetic has steps
    weigh: Callable[[str, Mapping[str, Scalar]], float] | None = None


class Updates:
    """The updates of a round in the order of their arrival; iterate over it once.

    ``await`` ends with the round: by its deadline if it has one, else when every site is settled.
    A site is settled when its update is here, or it failed, or its link died.

    Raises (when iterating):
        QuorumNotReached: the round ended with too few updates.
    """

    def __init__(self, setting: RoundSetting, tasks: TaskGroup) -> None:
        self._setting = setting
        self._tasks = tasks
        self._machine = RoundMachine(setting.plan)
        self._leases: dict[str, Lease] = {}
        self._arrived: deque[Update] = deque()
        self._adding = 0  # updates that are admitted and not delivered: they are being added
        self._waiter: asyncio.Future[None] | None = None
        self.records: dict[str, SiteRecord] = {}
        self.failures: dict[str, str] = {}

    def __enter__(self) -> Self:
        """Give the first sites their task and set the deadline."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Commit what was taken; after an exception take every task back."""
        if exc is None:
            self.commit()
        else:
            self.abandon()

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> tuple[str, Update]:
        """Return the next update; ends when the round is closed and all were returned."""
        while not self._arrived:
            closed = self._machine.closed
            if closed is decisions.CloseReason.NO_QUORUM:
                raise self._no_quorum()
            if closed is not None and not self._adding:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        update = self._arrived.popleft()
        return update.site, update

    @property
    def closed(self) -> decisions.CloseReason | None:
        """Why the round is over, or None."""
        return self._machine.closed

    def start(self) -> None:
        """Give the first sites their task and set the deadline."""
        deadline = self._setting.plan.deadline
        if deadline is not None:
            self._tasks.start_soon(self._expire, deadline, name="deadline of a round")
        self._carry_out(self._machine.handle(decisions.Started()))

    def commit(self) -> None:
        """Tell every site whose update was taken that it will not be asked for again."""
        for lease in self._leases.values():
            lease.commit()

    def abandon(self) -> None:
        """Take the task back from every site, also where its update is here already."""
        for lease in self._leases.values():
            lease.revoke("the round was given up")

    def settle(self, site: str, record: SiteRecord, update: Update | None) -> None:
        """Take note that a site failed, or that its update is admitted and will be delivered."""
        reducer = self._setting.reducer
        if update is None:
            self.failures[site] = record.reason
            if reducer is not None:
                reducer.discard(site)
            event: decisions.Event = decisions.Failed(site)
        else:
            self._adding += 1
            event = decisions.Arrived(site)
        self._note(record)
        self._carry_out(self._machine.handle(event))
        self._wake()

    def deliver(self, update: Update) -> None:
        """Hand an update to whoever iterates; the last one ends a round that is closed."""
        self._adding -= 1
        self._arrived.append(update)
        self._wake()

    def _carry_out(self, actions: list[decisions.Action]) -> None:
        for action in actions:
            match action:
                case decisions.Offer(site):
                    lease = self._leases[site] = Lease(self._setting, site, self)
                    self._setting.observer.site_started(self._setting.task.number, site)
                    self._tasks.start_soon(lease.run, name=f"lease of {site}")
                case decisions.Revoke(site):
                    self._revoke(site)
                case decisions.Close():
                    self._wake()

    def _revoke(self, site: str) -> None:
        lease = self._leases.get(site)
        if self._setting.reducer is not None:
            self._setting.reducer.discard(site)
        if lease is not None:
            self._note(lease.revoke("the round was closed"))

    def _note(self, record: SiteRecord) -> None:
        if record.site not in self.records:
            self.records[record.site] = record
            self._setting.observer.site_finished(self._setting.task.number, record)

    async def _expire(self, seconds: float) -> None:
        await anyio.sleep(seconds)
        self._carry_out(self._machine.handle(decisions.DeadlinePassed()))
        self._wake()

    def _no_quorum(self) -> FlareError:
        plan = self._setting.plan
        late = {
            site: record.reason
            for site, record in self.records.items()
            if record.status is SiteStatus.LATE
        }
        return QuorumNotReached(
            self._setting.task.number, self._machine.arrived, plan.quorum, {**self.failures, **late}
        )

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
