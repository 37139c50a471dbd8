"""The sites of one job, and the rounds that are run with them."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TypeAlias

import anyio

from flare_async.errors import ConfigError
from flare_async.net.groups import single_error
from flare_async.roles.machine import RoundPlan
from flare_async.roles.messages import Scalar
from flare_async.roles.partials import with_sums
from flare_async.roles.round import RoundObserver, RoundSetting, RoundTask, Updates
from flare_async.roles.server import Server
from flare_async.roles.task_stream import NextTask, StreamSetting, UpdateStream
from flare_async.roles.task_stream_machine import StreamPlan
from flare_async.transfer.admission import Admission
from flare_async.transfer.reducer import Reducer, SteppedReducer
from flare_async.transfer.tensors import TensorSet

__all__ = ["Cohort", "Tee"]

Tee: TypeAlias = Callable[[RoundTask, TensorSet, Reducer], Reducer]


class Cohort:
    """The sites that take part in a job, in the order in which their updates are summed."""

    def __init__(
        self,
        server: Server,
        sites: Sequence[str],
        observer: RoundObserver,
        window: int | None = None,
    ) -> None:
        self.server = server
        self.sites = tuple(sites)
        self._observer = observer
        self._window = window
        self.tee: Tee | None = None  # sees each update before the reducer admits it

    def choose(
        self, number: int, size: int | None = None, over_select: float = 1.0
    ) -> tuple[str, ...]:
        """Return the sites of a round: all, or a draw of ``size`` times ``over_select``.

        The draw depends on the run's seed and the round's number only.

        Raises:
            ConfigError: ``over_select`` is below 1.
        """
        if not 1 <= over_select < math.inf:
            raise ConfigError("over_select", over_select, "a factor of at least 1 is needed")
        count = len(self.sites)
        if size is not None:
            count = min(count, math.ceil(size * over_select))
        if count == len(self.sites):
            return self.sites
        stream = self.server.context.random.once(f"sites of round {number}")
        chosen = set(stream.sample(range(len(self.sites)), count))
        return tuple(site for index, site in enumerate(self.sites) if index in chosen)

    @asynccontextmanager
    async def round(
        self,
        task: RoundTask,
        model: TensorSet,
        *,
        quorum: int | None = None,
        deadline: float | None = None,
        size: int | None = None,
        sites: Sequence[str] | None = None,
        reducer: Reducer | None = None,
        weigh: Callable[[str, Mapping[str, Scalar]], float] | None = None,
    ) -> AsyncIterator[Updates]:
        """Offer ``model`` and the task to the sites (default: all); the block owns their leases.

        The round closes when ``size`` updates have come (default: all; a sum is not divided), or
        ``deadline`` seconds after its start if ``quorum`` (default: ``size``) have.

        With a ``reducer`` each update, or relay's sum, is staged into it and admitted as it comes,
        weighed by ``weigh(site, meta)``; without one it arrives with its tensors. Leaving the block
        normally sends *committed* to the sites whose updates were taken and resets all others; an
        exception resets everybody.

        Raises:
            ConfigError: the numbers do not fit each other, or there is no site.
            QuorumNotReached: (from iterating) too few updates came.
        """
        plan = self._plan(self._named(sites), quorum, size, deadline)
        # What the body raises leaves this block as it is, not in a group.
        async with self._passing(task, model, reducer) as (offered, into):
            readers = self.server.readers(plan.sites)
            offering = self.server.shelf.offer(offered, readers=readers, version=task.number)
            with single_error():
                async with offering as offer, anyio.create_task_group() as tasks:
                    stepped = into if isinstance(into, SteppedReducer) else None
                    admits = Admission(offered.specs, aliases=offered.aliases)
                    facts = (self._observer, into, stepped, weigh)
                    setting = RoundSetting(self.server, task, plan, offer, admits, *facts)
                    with Updates(with_sums(setting), tasks) as updates:
                        yield updates
                    tasks.cancel_scope.cancel()

    @asynccontextmanager
    async def stream(
        self,
        next_task: NextTask,
        *,
        concurrency: int | None = None,
        quorum: int = 1,
        timeout: float | None = None,
        weigh: Callable[[str, Mapping[str, Scalar]], float] | None = None,
    ) -> AsyncIterator[UpdateStream]:
        """Give every site a task of its own when it is free; the block owns them all.

        ``concurrency`` sites (default: all) work at a time, on what ``next_task(site)`` returns;
        where more are free, a draw by the run's seed says who is asked. A task that takes longer
        than ``timeout`` seconds is taken back and counts as failed. Leaving the block normally
        sends *committed* to the sites whose updates were taken and resets all others; an exception
        resets everybody.

        Raises:
            ConfigError: the numbers do not fit each other.
            QuorumNotReached: (from iterating) too few sites are left that still work.
        """
        if timeout is not None and not timeout > 0:
            raise ConfigError("timeout", timeout, "seconds above 0 are needed")
        size = len(self.sites) if concurrency is None else concurrency
        try:
            plan = StreamPlan(self.sites, quorum, min(size, len(self.sites)))
        except ValueError as exc:
            raise ConfigError("concurrency", size, str(exc)) from exc
        with self._asking(next_task) as asked, single_error():
            facts = (self._observer, timeout, weigh, self.tee)
            setting = StreamSetting(self.server, plan, asked, *facts)
            async with anyio.create_task_group() as tasks:
                with UpdateStream(setting, tasks) as updates:
                    yield updates
                tasks.cancel_scope.cancel()

    @asynccontextmanager
    async def _passing(
        self, task: RoundTask, model: TensorSet, reducer: Reducer | None
    ) -> AsyncIterator[tuple[TensorSet, Reducer | None]]:
        """Yield what a round offers in place of ``model``, and what its updates go into."""
        yield model, self._teed(task, model, reducer)

    @contextmanager
    def _asking(self, next_task: NextTask) -> Iterator[NextTask]:
        """Yield what a stream asks for tasks in place of ``next_task``."""
        yield next_task

    def _named(self, sites: Sequence[str] | None) -> tuple[str, ...]:
        """Return the sites of a round; no name at all is not everybody. Raises ConfigError."""
        if sites is not None and not sites:
            raise ConfigError("sites", sites, "names no site", "leave it out to ask all of them")
        return self.sites if sites is None else tuple(sites)

    def _teed(self, task: RoundTask, model: TensorSet, reducer: Reducer | None) -> Reducer | None:
        if reducer is None or self.tee is None:
            return reducer
        return self.tee(task, model, reducer)

    def _plan(
        self, sites: tuple[str, ...], quorum: int | None, size: int | None, deadline: float | None
    ) -> RoundPlan:
        if deadline is not None and not deadline > 0:
            raise ConfigError("deadline", deadline, "seconds above 0 are needed")
        target = min(len(sites) if size is None else size, len(sites))
        needed = target if quorum is None else quorum
        try:
            return RoundPlan(sites, needed, target, deadline, self._window)
        except ValueError as exc:
            raise ConfigError("quorum", needed, str(exc)) from exc
