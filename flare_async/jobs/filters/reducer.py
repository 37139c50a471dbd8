"""A reducer behind filters: updates are staged as they come and changed on their way into the sum.

An update waits as it was sent (a quantised one in its few bytes) in a staging area of its own. When
it is whole it goes through the chain, cell by cell, into the sink of the reducer proper.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from flare_async.errors import FlareError, LocalProtocolError, UpdateRefused
from flare_async.jobs.filters.answers import as_compared, with_answers_behind
from flare_async.jobs.filters.applied import FilterFailed, applied
from flare_async.limits import KIB
from flare_async.model import ParamsType
from flare_async.transfer.filters.filter import Filter, Passage
from flare_async.transfer.reducer import KeepingReducer, Reducer, SteppedReducer
from flare_async.transfer.sink import TensorSink
from flare_async.transfer.source import MemorySource, TensorSource
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.staging import StagedUpdate
from flare_async.transfer.staging_area import StagingArea
from flare_async.transfer.tensors import TensorSet

__all__ = ["FilteredReducer"]

EXTRA_BYTES: Final = 64 * KIB  # over the model's: a code may be a little larger for tiny tensors
EXTRA_TENSORS: Final = 16


@dataclass(slots=True)
class Waiting:
    """An update as it was sent."""

    weight: float
    kind: ParamsType | None
    update: StagedUpdate


class FilteredReducer:
    """Takes what sites send, and gives another reducer what the filters make of it.

    Relays cannot add what is not filtered yet, so it takes no partial sums. ``budget`` bounds the
    memory of updates that wait as they were sent; beyond it they wait in a file.
    """

    def __init__(
        self,
        inner: Reducer,
        chain: Sequence[Filter],
        passage: Passage,
        model: TensorSet,
        budget: int,
    ) -> None:
        self._inner = inner
        self._chain = tuple(chain)
        self._passage = passage
        self._model = model
        self._area = StagingArea(budget)
        self._waiting: dict[str, Waiting] = {}

    @property
    def round_number(self) -> int:
        """The number of the round that it is of."""
        return self._passage.round_number

    def stage(self, site: str, weight: float, kind: ParamsType | None = None) -> TensorSink:
        """Return the sink for what a site sends; a former one of the same site is discarded.

        The sink refuses more bytes or tensors than the model could have.
        """
        self._drop(site)
        update = StagedUpdate(self._area, lambda specs: self._check(site, specs))
        self._waiting[site] = Waiting(weight, kind, update)
        return update

    def commit(self, site: str) -> None:
        """Filter and admit a whole update. Raises as ``admitting``."""
        for _ in self.admitting(site):
            pass
        for _ in self.summing():
            pass

    def admitting(self, site: str) -> Iterator[None]:
        """Filter and admit a whole update, yielding after every cell.

        Raises:
            UpdateRefused: a filter failed, or what it made is not admissible.
            TransferError: it is not whole, or the spool failed.
            LocalProtocolError: nothing is staged, or the site is settled.
        """
        waiting = self._waiting.get(site)
        if waiting is None:
            raise LocalProtocolError(f"{site}: nothing is staged")
        try:
            yield from self._filtering(site, waiting)
        except FilterFailed as exc:
            raise UpdateRefused(site, exc.problem) from None
        if isinstance(self._inner, SteppedReducer):
            yield from self._inner.admitting(site)
        else:
            self._inner.commit(site)
        self._drop(site)

    def _filtering(self, site: str, waiting: Waiting) -> Iterator[None]:
        kind = waiting.kind or self._passage.kind
        if kind is ParamsType.FULL:
            for one in self._chain:
                if one.differences:
                    problem = f"filter {type(one).__name__} is for differences, it sent weights"
                    raise FilterFailed(problem)
        sent = MemorySource(self._model)
        passage = replace(self._passage.at(site, kind), received=as_compared(sent))
        chain = with_answers_behind(self._chain, sent, kind)
        source = applied(chain, waiting.update, passage)
        sink = self._inner.stage(site, waiting.weight, waiting.kind)
        try:
            sink.begin(source.specs, source.aliases)
            yield from _copied(source, sink)
        except FlareError as exc:
            if isinstance(exc, UpdateRefused):
                raise
            raise UpdateRefused(site, f"what it sent cannot be filtered: {exc}") from exc

    def discard(self, site: str) -> None:
        """Settle a site without an update. Raises as the reducer proper."""
        self._drop(site)
        self._inner.discard(site)

    def summing(self) -> Iterator[None]:
        """Add what can be added by now; raises as the reducer proper."""
        if isinstance(self._inner, SteppedReducer):
            yield from self._inner.summing()

    def finish(self) -> TensorSet:
        """Return the new model. Raises as the reducer proper."""
        return self._inner.finish()

    def taken(self, site: str) -> TensorSet | None:
        """Return an admitted update's tensors where the reducer proper keeps them."""
        return self._inner.taken(site) if isinstance(self._inner, KeepingReducer) else None

    def close(self) -> None:
        """Give back what waits; harmless more than once."""
        for site in list(self._waiting):
            self._drop(site)
        self._area.close()

    def _drop(self, site: str) -> None:
        waiting = self._waiting.pop(site, None)
        if waiting is not None:
            waiting.update.discard()
        if not self._waiting:
            self._area.close()  # a file that nobody waits in; another one is made when needed

    def _check(self, site: str, specs: Sequence[TensorSpec]) -> None:
        most, tensors = self._model.nbytes + EXTRA_BYTES, 2 * len(self._model) + EXTRA_TENSORS
        nbytes = sum(spec.nbytes for spec in specs)
        if nbytes > most or len(specs) > tensors:
            sent = f"{nbytes} bytes in {len(specs)} tensors"
            raise UpdateRefused(site, f"offers {sent}, {most} in {tensors} are allowed")


def _copied(source: TensorSource, sink: TensorSink) -> Iterator[None]:
    for spec in source.specs:
        if spec.name in source.aliases:
            continue
        at = 0
        for chunk in source.chunks(spec.name):
            sink.write(spec.name, at, chunk)
            at += chunk.nbytes
            yield
    sink.finish()
