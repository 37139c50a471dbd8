"""A cohort whose rounds and streams go through the server's filters."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Literal

from flare_async.errors import ConfigError
from flare_async.jobs.filters.applied import FilterFailed, applied, with_key
from flare_async.jobs.filters.chains import FilterChains
from flare_async.jobs.filters.kept import KeptUpdates
from flare_async.jobs.filters.reducer import FilteredReducer
from flare_async.jobs.filters.site import INLINE_BYTES
from flare_async.jobs.threads import run_to_end
from flare_async.model import ParamsType
from flare_async.roles.cohort import Cohort, Tee
from flare_async.roles.round import RoundObserver, RoundTask
from flare_async.roles.server import Server
from flare_async.roles.task_stream import NextTask, StreamTask
from flare_async.transfer.filters.cells import gathered
from flare_async.transfer.filters.filter import Passage
from flare_async.transfer.reducer import Reducer
from flare_async.transfer.repull import RepulledMean
from flare_async.transfer.source import MemorySource
from flare_async.transfer.tensors import TensorSet

__all__ = ["FilteredCohort"]


class FilteredCohort(Cohort):
    """A cohort with ``filters``; a round without any is the cohort's own.

    Where there are filters of the server relays add nothing: every update is filtered by itself.
    """

    filters: FilterChains | None = None
    _tee: Tee | None = None

    def __init__(
        self,
        server: Server,
        sites: Sequence[str],
        observer: RoundObserver,
        window: int | None = None,
    ) -> None:
        super().__init__(server, sites, observer, window)
        self._originals: dict[tuple[int, str], TensorSet] = {}  # of rounds that go on
        self._open: weakref.WeakSet[FilteredReducer] = weakref.WeakSet()

    @property
    def tee(self) -> Tee | None:
        """What updates pass on their way into a reducer: first filters, then what was set."""
        return self._through if self.filters is not None else self._tee

    @tee.setter
    def tee(  # pyright: ignore[reportIncompatibleVariableOverride] - a field of the base
        self, tee: Tee | None
    ) -> None:
        self._tee = tee

    @asynccontextmanager
    async def _passing(
        self, task: RoundTask, model: TensorSet, reducer: Reducer | None
    ) -> AsyncIterator[tuple[TensorSet, Reducer | None]]:
        """Yield what the output filters make of ``model``; updates pass the input filters.

        Raises:
            ConfigError: a filter failed with the model, or the updates are not kept here.
        """
        offered = await self._offered(task, model)
        if reducer is None and self._filters_updates(task):
            reducer = KeptUpdates(model, self.server.context.limits.memory_bytes)
        self._originals[task.number, task.name] = model
        try:
            async with super()._passing(task, offered, reducer) as passing:
                yield passing
        finally:
            del self._originals[task.number, task.name]
            self._close(task.number)

    @contextmanager
    def _asking(self, next_task: NextTask) -> Iterator[NextTask]:
        """Yield what gives tasks with what the output filters make of each version.

        A version is filtered when its first task is asked for, on the loop, and raises then as a
        round does.
        """
        made: list[tuple[TensorSet, str, TensorSet]] = []  # the newest version, its task, its form

        def filtered(site: str) -> StreamTask | None:
            asked = next_task(site)
            if asked is None or not self._filters_updates(asked.task):
                return asked
            task, model = asked.task, asked.model
            if self._has("server_output", task):
                if not made or made[0][0] is not model or made[0][1] != task.name:
                    made[:] = [(model, task.name, self._maker(task, model)())]
                asked = replace(asked, model=made[0][2])
            reducer = asked.reducer or KeptUpdates(model)
            return replace(asked, reducer=reducer)

        try:
            yield filtered
        finally:
            self._close(None)

    async def _offered(self, task: RoundTask, model: TensorSet) -> TensorSet:
        if not self._has("server_output", task):
            return model
        make = self._maker(task, model)
        return make() if model.nbytes <= INLINE_BYTES else await run_to_end(make)

    def _has(self, place: Literal["server_input", "server_output"], task: RoundTask) -> bool:
        return self.filters is not None and bool(self.filters.of(place, task.name))

    def _filters_updates(self, task: RoundTask) -> bool:
        filtered = self._has("server_input", task) or self._has("server_output", task)
        return filtered and task.wants_update

    def _maker(self, task: RoundTask, model: TensorSet) -> Callable[[], TensorSet]:
        chain = () if self.filters is None else self.filters.of("server_output", task.name)
        passage = self._passage(task, "out")

        def make() -> TensorSet:
            try:
                return gathered(applied(chain, MemorySource(model), passage))
            except FilterFailed as exc:
                failed = ConfigError("add_server_output_filter", task.name, exc.problem)
            raise failed

        return make

    def _through(self, task: RoundTask, model: TensorSet, reducer: Reducer) -> Reducer:
        model = self._originals.get((task.number, task.name), model)
        if self._tee is not None and not isinstance(reducer, KeptUpdates):
            reducer = self._tee(task, model, reducer)
        if self.filters is None or not self._filters_updates(task):
            return reducer
        if isinstance(reducer, RepulledMean):
            problem = "what is pulled again cannot pass the server's filters"
            raise ConfigError("staging", "repull", problem, 'use staging="spool"')
        chain, budget = (
            self.filters.of("server_input", task.name),
            self.server.context.limits.staging_bytes,
        )
        behind = FilteredReducer(reducer, chain, self._passage(task, "in"), model, budget)
        self._open.add(behind)
        return behind

    def _close(self, number: int | None) -> None:
        for one in list(self._open):
            if number is None or one.round_number == number:
                one.close()
                self._open.discard(one)

    def _passage(self, task: RoundTask, way: str) -> Passage:
        facts = Passage(
            task=task.name,
            round_number=task.number,
            total_rounds=task.total,
            kind=ParamsType.FULL,
            meta=task.meta,
        )
        return with_key(self.server.context.random, facts, way)
