"""A site's filters: around its work, in the process of its client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from flare_async.errors import FlareError, TrainingFailed
from flare_async.jobs.filters.answers import as_compared, with_answers
from flare_async.jobs.filters.applied import FilterFailed, applied, as_source, with_key
from flare_async.jobs.filters.chains import FilterChains
from flare_async.jobs.threads import run_to_end
from flare_async.limits import MIB
from flare_async.model import ParamsType
from flare_async.ports import Random
from flare_async.roles.client import SiteTask
from flare_async.transfer.dtypes import dtype_of
from flare_async.transfer.filters.cells import gathered
from flare_async.transfer.filters.differences import changes
from flare_async.transfer.filters.filter import Passage, Scalar
from flare_async.transfer.source import MemorySource, TensorSource
from flare_async.transfer.tensors import TensorSet

__all__ = ["Sent", "SiteFilters"]

INLINE_BYTES: Final = 4 * MIB  # a few milliseconds of arithmetic

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class Sent:
    """An update on its way out of a site."""

    tensors: TensorSet | TensorSource
    kind: ParamsType
    meta: Mapping[str, Scalar]


def arranged(tensors: TensorSet) -> TensorSet:
    """Return tensors in the order in which any model arrives: a seed's draws follow it."""
    specs = sorted(tensors.specs, key=lambda spec: (-dtype_of(spec.dtype).rank, spec.name))
    return TensorSet.from_views(specs, tensors, tensors.aliases)


@dataclass(frozen=True, slots=True)
class SiteFilters:
    """The chains of one site. Small tensors are made at once, larger ones when they are sent."""

    chains: FilterChains
    random: Random
    site: str

    async def incoming(self, task: SiteTask) -> TensorSet:
        """Return the model as the site's work gets it; it is held beside the one that came.

        Waits for arithmetic only.

        Raises:
            TrainingFailed: a filter failed; its line is named.
        """
        chain = self.chains.of("client_input", task.task, self.site)
        if not chain:
            return task.tensors
        passage = self._passage(task, ParamsType.FULL, task.meta)
        source = MemorySource(task.tensors)
        return await self._make(
            task.tensors.nbytes, lambda: arranged(gathered(applied(chain, source, passage)))
        )

    async def outgoing(self, task: SiteTask, trained_on: TensorSet, update: Sent) -> Sent:
        """Return what leaves the site in place of ``update``.

        Waits for arithmetic only. Filters for differences make whole weights a difference.

        Raises:
            TrainingFailed: a filter failed; its line is named.
        """
        chain = self.chains.of("client_output", task.task, self.site)
        if not chain:
            return update
        source, sent = as_source(update.tensors), MemorySource(trained_on)
        kind, received = update.kind, as_compared(sent)
        if any(one.differences for one in chain):
            kind = ParamsType.DIFF
        chain = with_answers(chain, sent, update.kind, kind)
        nbytes = sum(spec.nbytes for spec in source.specs)
        passage = self._passage(task, kind, update.meta, received)
        small = nbytes <= INLINE_BYTES

        def make() -> TensorSource:
            whole = update.kind is ParamsType.FULL and kind is ParamsType.DIFF
            made = applied(chain, changes(source, received) if whole else source, passage)
            return MemorySource(gathered(made)) if small else made

        made = await self._make(nbytes, make)
        tensors = made.tensors if isinstance(made, MemorySource) else made
        return Sent(tensors, kind, update.meta)

    def _passage(
        self,
        task: SiteTask,
        kind: ParamsType,
        meta: Mapping[str, Scalar],
        received: TensorSource | None = None,
    ) -> Passage:
        way = "in" if received is None else "out"
        facts = Passage(
            task=task.task,
            site=self.site,
            round_number=task.round_number,
            total_rounds=task.total_rounds,
            kind=kind,
            meta=meta,
            received=received,
        )
        return with_key(self.random, facts, way)

    async def _make(self, nbytes: int, make: Callable[[], ResultT]) -> ResultT:
        try:
            return make() if nbytes <= INLINE_BYTES else await run_to_end(make)
        except FilterFailed as exc:
            failed = TrainingFailed(self.site, exc.problem, exc.details)
        except FlareError as exc:
            failed = TrainingFailed(self.site, f"filters: {exc}")
        raise failed
