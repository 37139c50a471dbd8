"""Robust means as a reducer: every update is held until all are there, in memory or the spool.

What a median of the elements or a choice among whole updates needs is all updates at once, so
nothing can be added as it comes: updates are admitted like those of a weighted mean and wait in the
staging area. The result is then taken a chunk of one tensor at a time, of all updates together;
beyond the staging area this holds a chunk of a MiB for each of them. Weights have no part in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self, TypeAlias

import numpy as np

from flare_async.errors import ConfigError, LocalProtocolError, TransferError, UpdateRefused
from flare_async.limits import Limits
from flare_async.model import ParamsType
from flare_async.transfer.cursor import Cursor
from flare_async.transfer.kernel import narrow, values_nbytes, widen
from flare_async.transfer.mean_gate import MeanGate
from flare_async.transfer.mean_options import MeanOptions
from flare_async.transfer.robust_rules import Block, Chunks, RobustRule
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.staging import StagedUpdate
from flare_async.transfer.staging_area import StagingArea
from flare_async.transfer.sums import Contribution, as_plain, dtype_as_added
from flare_async.transfer.tensors import TensorSet

__all__ = ["RobustMean"]

VALUES = 1 << 18  # of all updates together that are widened at once: 2 MiB
_LEAST = 1 << 10

Staged: TypeAlias = "tuple[Contribution, StagedUpdate]"


@dataclass(frozen=True, slots=True)
class _Held(Chunks):
    """The updates of the mean, in the order of the cohort, read together."""

    model: TensorSet
    names: tuple[str, ...]
    updates: tuple[Contribution, ...]

    @property
    def count(self) -> int:
        """How many updates there are."""
        return len(self.updates)

    def tensors(self) -> Iterator[Iterator[Block]]:
        """Yield the blocks of each tensor."""
        for name in self.names:
            yield self.blocks(self.model.spec(name))

    def blocks(self, spec: TensorSpec) -> Iterator[Block]:
        """Yield the values of a tensor, a row an update, some columns at a time."""
        width = values_nbytes(spec.dtype)
        readers = [update.source.chunks(self._name(update, spec.name)) for update in self.updates]
        old, at = self.model[spec.name], 0
        for chunks in zip(*readers, strict=True):
            end = at + chunks[0].nbytes
            yield from self._rows(spec, chunks, old[at:end], width)
            at = end

    def _rows(
        self, spec: TensorSpec, chunks: Sequence[memoryview], old: memoryview, width: int
    ) -> Iterator[Block]:
        step = max(_LEAST, VALUES // max(1, self.count)) * width
        for start in range(0, old.nbytes, step):
            part = slice(start, min(start + step, old.nbytes))
            rows = np.empty((self.count, (part.stop - part.start) // width), np.float64)
            for row, update, chunk in zip(rows, self.updates, chunks, strict=True):
                row[:] = widen(dtype_as_added(spec, update.kind), chunk[part])
                if update.kind is ParamsType.DIFF:
                    np.add(row, widen(spec.dtype, old[part]), out=row)
            yield rows

    def _name(self, update: Contribution, name: str) -> str:
        return update.source.aliases.get(name, name)


class RobustMean:
    """Takes updates in any order, holds them, and combines them by a ``RobustRule``.

    A difference counts as the model that it leads to. ``options`` are those of a weighted mean;
    ``accumulator``, ``groups`` and ``exact`` have no part in it.

    Raises:
        ConfigError: an option cannot be used with this model or rule.
    """

    def __init__(
        self,
        model: TensorSet,
        rule: RobustRule,
        *,
        order: Sequence[str],
        limits: Limits | None = None,
        options: MeanOptions | None = None,
    ) -> None:
        self._options = MeanOptions() if options is None else options
        for name in ("exact", "groups"):
            if getattr(self._options, name):
                problem = f"{rule} takes no partial sums"
                raise ConfigError(name, getattr(self._options, name), problem, "leave it out")
        self._model = model
        self._rule = rule
        self._order = tuple(order)
        self._cursor = Cursor(order)
        self._gate = MeanGate(model, self._options, len(self._order))
        budget = (Limits() if limits is None else limits).staging_bytes
        self._area = StagingArea(budget, folder=self._options.spool_folder)
        self._staged: dict[str, Staged] = {}
        self._admitted: dict[str, Staged] = {}
        self._ended = False
        self.nbytes = model.nbytes * max(1, len(self._order))  # that finish() reads
        self.chosen: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def staged_bytes(self) -> tuple[int, int, int]:
        """The most memory that updates held, and their bytes in the spool and by reference."""
        area = self._area
        return area.peak_bytes, area.spilled_bytes, area.referenced_bytes

    def stage(self, site: str, weight: float, kind: ParamsType | None = None) -> StagedUpdate:
        """Return the sink for a site's update; a former one of the same site is discarded.

        Raises:
            LocalProtocolError: the site is not of the cohort or settled, or the mean has ended.
        """
        self._expect_running()
        self._cursor.require_open(site)
        self._forget(site)
        kind = kind or self._options.params_type
        gate = self._gate
        looks = gate.looks(kind)
        update = StagedUpdate(self._area, lambda specs: gate.check_specs(site, specs), looks=looks)
        self._staged[site] = Contribution(site, as_plain(weight), kind, update), update
        return update

    def commit(self, site: str) -> None:
        """Admit a whole update.

        Raises:
            UpdateRefused: it is not admissible; the site is discarded and touched nothing.
            TransferError: it is not whole, or the spool failed.
            LocalProtocolError: nothing is staged, the site is settled, or the mean has ended.
        """
        for _ in self.admitting(site):
            pass

    def admitting(self, site: str) -> Iterator[None]:
        """Admit a whole update, yielding after chunks; raises as ``commit``."""
        self._expect_running()
        self._cursor.require_open(site)
        staged = self._staged.get(site)
        if staged is None:
            raise LocalProtocolError(f"{site}: nothing is staged")
        contribution, update = staged
        if not update.whole:
            raise TransferError(f"{site}: its update is not whole")
        try:
            yield from self._gate.checking(contribution)
        except UpdateRefused:
            if self._staged.get(site) is staged:
                self.discard(site)
            raise
        if self._staged.get(site) is not staged:
            raise LocalProtocolError(f"{site}: was staged again while it was checked")
        self._cursor.commit(site)
        self._admitted[site] = self._staged.pop(site)

    def summing(self) -> Iterator[None]:
        """Do nothing: nothing can be combined before all updates are there."""
        return iter(())

    def discard(self, site: str) -> None:
        """Settle a site without an update; harmless when it is discarded already.

        Raises:
            LocalProtocolError: its update is committed, or it is not of the cohort.
        """
        self._cursor.discard(site)
        self._forget(site)

    def finish(self) -> TensorSet:
        """Return the new model; sites that are not settled count as discarded.

        Raises:
            LocalProtocolError: too few updates were committed for the rule, or the mean has ended.
            TransferError: the spool failed.
        """
        self._expect_running()
        for site in self._cursor.open_sites():
            self.discard(site)
        sites = [site for site in self._order if site in self._admitted]
        if len(sites) < self._rule.least:
            raise LocalProtocolError(
                f"{self._rule} needs {self._rule.least} updates, {len(sites)} were committed"
            )
        held = _Held(
            self._model,
            tuple(self._gate.precisions),
            tuple(self._admitted[site][0] for site in sites),
        )
        rows = self._rule.select(held)
        self.chosen = tuple(sites[row] for row in rows)
        result = self._combined(held, rows)
        self.close()
        return result

    def close(self) -> None:
        """End without a result, or after one; harmless more than once."""
        self._ended = True
        for _, update in (*self._staged.values(), *self._admitted.values()):
            update.discard()
        self._staged, self._admitted = {}, {}
        self._area.close()

    def _combined(self, held: _Held, rows: Sequence[int]) -> TensorSet:
        views: dict[str, memoryview] = {}
        for spec in self._model.specs:
            if spec.name in self._gate.precisions:
                views[spec.name] = self._tensor(spec, held, rows)
            elif spec.name not in self._model.aliases:
                views[spec.name] = self._model[spec.name]
        return TensorSet.from_views(self._model.specs, views, self._model.aliases)

    def _tensor(self, spec: TensorSpec, held: _Held, rows: Sequence[int]) -> memoryview:
        result, at = np.empty(spec.nbytes, np.uint8), 0
        everybody = len(rows) == held.count
        for block in held.blocks(spec):
            values = self._rule.combine(block if everybody else block[list(rows)])
            part = narrow(spec.dtype, values).view(np.uint8)
            result[at : at + part.size] = part
            at += part.size
        return result.data

    def _forget(self, site: str) -> None:
        staged = self._staged.pop(site, None)
        if staged is not None:
            staged[1].discard()

    def _expect_running(self) -> None:
        if self._ended:
            raise LocalProtocolError("the mean has ended")
