"""Robust means as a reducer: every update is held until all are there, in memory or the spool.

What a median of the elements or a choice among whole updates needs is all updates at once, so
nothing can be added as it comes: updates are admitted like those of a weighted mean and wait in the
staging area. The result is then taken a chunk of one tensor at a time, of all updates together;
beyond the staging area this holds a chunk of a MiB for each of them. Weights have no part in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from flare_async.errors import ConfigError, LocalProtocolError
from flare_async.limits import Limits
from flare_async.model import ParamsType
from flare_async.transfer.held_round import HeldRound
from flare_async.transfer.kernel import narrow, values_nbytes, widen
from flare_async.transfer.mean_options import MeanOptions
from flare_async.transfer.robust_rules import Block, Chunks, RobustRule
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.sums import Contribution, dtype_as_added
from flare_async.transfer.tensors import TensorSet

__all__ = ["BLOCKS", "RobustMean"]

VALUES: Final = 1 << 18  # of all updates together that are widened at once: 2 MiB
BLOCKS: Final = 4 * 8 * VALUES  # these, what a rule makes of them, and a difference's
_LEAST = 1 << 10


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


class RobustMean(HeldRound):
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
        super().__init__(model, order=order, limits=limits, options=options)
        for name in ("exact", "groups"):
            if getattr(self._options, name):
                problem = f"{rule} takes no partial sums"
                raise ConfigError(name, getattr(self._options, name), problem, "leave it out")
        self._rule = rule
        self._precisions = self._area.gate.precisions
        self.nbytes = model.nbytes * max(1, len(self._order))  # that finish() reads
        self.chosen: tuple[str, ...] = ()

    def finish(self) -> TensorSet:
        """Return the new model; sites that are not settled count as discarded.

        Raises:
            LocalProtocolError: too few updates were committed for the rule, or the mean has ended.
            TransferError: the spool failed.
        """
        self._settle()
        found, least = self.held, self._rule.least
        if len(found) < least:
            raise LocalProtocolError(
                f"{self._rule} needs {least} updates, {len(found)} were committed"
            )
        held = _Held(self._model, tuple(self._precisions), found)
        rows = self._rule.select(held)
        self.chosen = tuple(found[row].site for row in rows)
        result = self._combined(held, rows)
        self.close()
        return result

    def _combined(self, held: _Held, rows: Sequence[int]) -> TensorSet:
        views: dict[str, memoryview] = {}
        for spec in self._model.specs:
            if spec.name in self._precisions:
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
