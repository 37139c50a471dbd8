"""One round: leases out, updates in; everything it started ends with its block."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio

from flare_async.errors import FlareError, QuorumNotReached
from flare_async.net.callbacks import start_soon
from flare_async.roles import decisions
from flare_async.roles.lease import Lease
from flare_async.roles.machine import RoundMachine
from flare_async.roles.outcome import SiteRecord, SiteStatus
from flare_async.roles.partials import Partials
from flare_async.roles.setting import RoundObserver, RoundSetting, RoundTask, Update

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from flare_async.ports import Timer

__all__ = ["RoundObserver", "RoundSetting", "RoundTask", "Update", "Updates"]

CLOSED = "the round was closed"
GIVEN_UP = "the round was given up"
NOT_ASKED = "was not asked"


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
        self._clock = setting.server.context.clock
        self._began = self._clock.now()
        self._timer: Timer | None = None  # of the deadline
        self._machine = RoundMachine(setting.plan)
        self._leases: dict[str, Lease] = {}
        self._ready: deque[Lease] = deque()  # nobody has begun to carry them through
        self._busy: set[str] = set()  # sites whose leases somebody carries through, or will at once
        self._runners = 0
        self.partials = Partials(setting, weakref.proxy(self), tasks)  # no cycle, see __exit__
        self._arrived: deque[Update] = deque()
        self._adding = 0  # updates that are admitted and not delivered: they are being added
        self._due: list[decisions.Action] = []  # tasks to offer when what is being added is added
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
        """Take back what is under way and commit the rest; an exception takes back everything."""
        if exc is None:
            self._carry_out(self._machine.handle(decisions.Left()))
            self.commit()
        else:
            self.abandon()
        if self._timer is not None:
            self._timer.cancel()
        self._leases = {}  # they refer to this: a round's memory must not wait for the collector

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

    @property
    def remaining(self) -> float | None:
        """How many seconds the round may still take; None without a deadline."""
        deadline = self._setting.plan.deadline
        if deadline is None:
            return None
        return max(0.0, self._began + deadline - self._clock.now())

    def start(self) -> None:
        """Give the first sites their task and set the deadline."""
        deadline = self._setting.plan.deadline
        if deadline is not None:
            # No task: a cancelled one keeps its frame, and with it the round, until collected.
            self._timer = self._clock.call_at(self._began + deadline, self._expire)
        self.partials.start()
        self._carry_out(self._machine.handle(decisions.Started()))

    def commit(self) -> None:
        """Tell every site whose update was taken that it will not be asked for again."""
        for lease in self._leases.values():
            lease.commit()

    def abandon(self) -> None:
        """Take the task back from every site, also where its update is here already."""
        self._carry_out(self._machine.handle(decisions.Left()), GIVEN_UP)
        for lease in self._leases.values():
            self._note(lease.revoke(GIVEN_UP))

    def settle(self, site: str, record: SiteRecord, update: Update | None) -> None:
        """Take note that a site failed, or that its update is admitted and will be delivered."""
        reducer = self._setting.reducer
        if update is None:
            self._busy.discard(site)
            self.failures[site] = record.reason
            if reducer is not None:
                reducer.discard(site)
            event: decisions.Event = decisions.Failed(site)
        else:
            self._adding += 1
            event = decisions.Arrived(site)
        self._note(record)
        actions = self._machine.handle(event)
        if update is not None:
            # Sites that begin before this update is in the sum would let results pile up.
            now: list[decisions.Action] = []
            for action in actions:
                (self._due if type(action) is decisions.Offer else now).append(action)
            actions = now
        if actions:
            self._carry_out(actions)
        self._wake()

    def deliver(self, update: Update) -> None:
        """Hand an update to whoever iterates; the last one ends a round that is closed."""
        self._adding -= 1
        self._busy.discard(update.site)  # who carried it through is free for the next one
        self._arrived.append(update)
        due, self._due = self._due, []
        if self._machine.closed is None:
            self._carry_out(due)
        self._wake()

    # Ledger

    def kept(self, site: str) -> None:
        """Take note that a relay keeps a site's update for the group's sum."""
        self._carry_out(self._machine.handle(decisions.Kept(site)))

    def gathered(self, arrived: Mapping[str, tuple[SiteRecord, Update]]) -> None:
        """Take note that a sum is admitted, and with it these updates, which will be delivered."""
        self._adding += len(arrived)
        for record, _ in arrived.values():
            self._note(record)
        self._carry_out(self._machine.handle(decisions.Gathered(tuple(arrived))))
        self._wake()

    def dropped(self, sites: tuple[str, ...]) -> None:
        """Take note that what a relay kept of these sites is lost."""
        self._carry_out(self._machine.handle(decisions.Dropped(sites)))

    def _carry_out(self, actions: list[decisions.Action], reason: str = CLOSED) -> None:
        for action in actions:
            match action:
                case decisions.Offer():
                    self._begin(action.site)
                case decisions.Revoke(site):
                    self._revoke(site, reason)
                case decisions.Gather(group):
                    self.partials.gather(group)
                case decisions.Close():
                    self._wake()

    def _begin(self, site: str) -> None:
        lease = self._leases[site] = Lease(self._setting, site, self)
        self._setting.observer.site_started(self._setting.task.number, site)
        self._busy.add(site)
        self._ready.append(lease)
        if len(self._busy) > self._runners:
            self._runners += 1
            start_soon(self._tasks, self._carry_through, name=f"leases from {site} on")

    async def _carry_through(self) -> None:
        """Carry one lease after the other through: a task costs as much as some of their frames."""
        while self._ready:
            with anyio.CancelScope() as scope:  # taking a lease back cancels it; then another one
                while self._ready and not scope.cancel_called:
                    lease = self._ready.popleft()
                    await lease.run(scope)
                    self._busy.discard(lease.site)
        self._runners -= 1

    def _revoke(self, site: str, reason: str) -> None:
        lease = self._leases.get(site)
        if self._setting.reducer is not None:
            self._setting.reducer.discard(site)
        if lease is not None:
            self._note(lease.revoke(reason))
        else:
            now = self._clock.now()
            self._note(SiteRecord(site, SiteStatus.LATE, now, now, reason=NOT_ASKED))

    def _note(self, record: SiteRecord) -> None:
        if record.site not in self.records:
            self.records[record.site] = record
            self._setting.observer.site_finished(self._setting.task.number, record)

    def _expire(self) -> None:
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
