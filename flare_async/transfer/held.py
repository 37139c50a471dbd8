"""Updates that are held whole until somebody has use for them, as asynchronous recipes do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np

from flare_async.errors import LocalProtocolError, TransferError, UpdateRefused
from flare_async.limits import Limits
from flare_async.model import ParamsType
from flare_async.transfer.kernel import (
    Addend,
    Precision,
    accumulate,
    narrow,
    new_scratch,
    values_nbytes,
)
from flare_async.transfer.mean_gate import MeanGate
from flare_async.transfer.mean_options import MeanOptions
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.staging import StagedUpdate
from flare_async.transfer.staging_area import StagingArea
from flare_async.transfer.sums import Contribution, as_plain, dtype_as_added
from flare_async.transfer.tensors import TensorSet

__all__ = ["Combination", "HeldArea", "HeldUpdate", "Term"]


class HeldArea:
    """What held updates share: the model that they must be like, memory, and beyond it a file.

    With a ``kind`` all must be of it: whole models, or differences.

    Raises:
        ConfigError: an option cannot be used with this model.
    """

    def __init__(
        self,
        model: TensorSet,
        limits: Limits,
        options: MeanOptions,
        kind: ParamsType | None = None,
    ) -> None:
        self.kind = kind
        self.gate = MeanGate(model, options, 1)
        self.area = StagingArea(limits.staging_bytes, folder=options.spool_folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give all memory and the file back; harmless more than once."""
        self.area.close()

    def slot(self) -> HeldUpdate:
        """Return the place of one update."""
        return HeldUpdate(self)


class HeldUpdate:
    """One update, as a reducer: staged, admitted, and held until ``release``."""

    def __init__(self, area: HeldArea) -> None:
        self._area = area
        self._staged: StagedUpdate | None = None
        self._contribution: Contribution | None = None
        self._admitted = False

    @property
    def admitted(self) -> bool:
        """Whether there is an admitted update."""
        return self._admitted

    @property
    def contribution(self) -> Contribution:
        """The admitted update.

        Raises:
            LocalProtocolError: there is none.
        """
        if self._contribution is None or not self._admitted:
            raise LocalProtocolError("no update was admitted here")
        return self._contribution

    def stage(self, site: str, weight: float, kind: ParamsType | None = None) -> StagedUpdate:
        """Return the sink for the update; a former one is discarded.

        Raises:
            UpdateRefused: it is of another kind than the area's.
            LocalProtocolError: an update was admitted already.
        """
        if self._admitted:
            raise LocalProtocolError(f"{site}: is committed already")
        self.release()
        gate, how = self._area.gate, kind or self._area.kind or ParamsType.FULL
        if self._area.kind not in {None, how}:
            raise UpdateRefused(site, f"params_type is {how}, {self._area.kind} is needed")
        looks = gate.looks(how)
        area = self._area.area
        staged = StagedUpdate(area, lambda specs: gate.check_specs(site, specs), looks=looks)
        self._staged = staged
        self._contribution = Contribution(site, as_plain(weight), how, staged)
        return staged

    def commit(self, site: str) -> None:
        """Admit the whole update; raises as ``admitting``."""
        for _ in self.admitting(site):
            pass

    def admitting(self, site: str) -> Iterator[None]:
        """Admit the whole update, yielding after chunks.

        Raises:
            UpdateRefused: it is not admissible.
            TransferError: it is not whole.
            LocalProtocolError: nothing is staged, or it was staged again meanwhile.
        """
        staged, contribution = self._staged, self._contribution
        if staged is None or contribution is None:
            raise LocalProtocolError(f"{site}: nothing is staged")
        if not staged.whole:
            raise TransferError(f"{site}: its update is not whole")
        yield from self._area.gate.checking(contribution)
        if self._staged is not staged:
            raise LocalProtocolError(f"{site}: was staged again while it was checked")
        self._admitted = True

    def summing(self) -> Iterator[None]:
        """Do nothing: a held update waits."""
        return iter(())

    def discard(self, site: str) -> None:
        """Give the update up, unless it is admitted."""
        if not self._admitted:
            self.release()

    def finish(self) -> TensorSet:
        """Refuse: one update is no model.

        Raises:
            LocalProtocolError: always; ``combined`` makes a model of held updates.
        """
        raise LocalProtocolError("a held update is combined with others")

    def release(self) -> None:
        """Give its memory and file space back; harmless more than once."""
        staged, self._staged = self._staged, None
        self._contribution, self._admitted = None, False
        if staged is not None:
            staged.discard()


@dataclass(frozen=True, slots=True)
class Term:
    """One update and what it is multiplied with."""

    update: Contribution
    factor: float


class Combination:
    """``keep`` times the model plus every update times its factor, in the order of ``terms``.

    Made a tensor at a time: beside the updates it holds the result and one accumulator. Tensors
    that are excluded keep the model's value.
    """

    def __init__(
        self, area: HeldArea, model: TensorSet, terms: Sequence[Term], keep: float = 1.0
    ) -> None:
        self._precisions = area.gate.precisions
        self._model = model
        self._terms = tuple(terms)
        self._keep = keep
        self._views: dict[str, memoryview] = {}

    def making(self) -> Iterator[None]:
        """Make it, yielding after every chunk.

        Raises:
            TransferError: the spool failed.
        """
        model = self._model
        for spec in model.specs:
            precision = self._precisions.get(spec.name)
            if precision is not None:
                yield from self._tensor(spec, precision)
            elif spec.name not in model.aliases:
                self._views[spec.name] = model[spec.name]

    def result(self) -> TensorSet:
        """Return the new model, once it is made."""
        return TensorSet.from_views(self._model.specs, self._views, self._model.aliases)

    def _tensor(self, spec: TensorSpec, precision: Precision) -> Iterator[None]:
        acc = np.zeros(spec.nbytes // values_nbytes(spec.dtype), precision)
        scratch = new_scratch(precision)
        if self._keep:
            accumulate(acc, Addend(spec.dtype, self._model[spec.name], self._keep), scratch)
            yield
        for term in self._terms:
            update, at = term.update, 0
            dtype = dtype_as_added(spec, update.kind)
            for chunk in update.source.chunks(update.source.aliases.get(spec.name, spec.name)):
                end = at + chunk.nbytes // values_nbytes(dtype)
                accumulate(acc[at:end], Addend(dtype, chunk, term.factor), scratch)
                at = end
                yield
        self._views[spec.name] = narrow(spec.dtype, acc).view(np.uint8).data
