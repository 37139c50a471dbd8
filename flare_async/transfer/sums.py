"""The accumulators of a weighted mean, one a tensor, and the model that they become."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol, TypeGuard, runtime_checkable

import numpy as np

from flare_async.hot_value import hot_value
from flare_async.model import ParamsType
from flare_async.net.zeros import is_zeros, zeros
from flare_async.transfer.kernel import (
    CHUNK,
    Accumulator,
    Addend,
    Precision,
    accumulate,
    narrow,
    new_scratch,
    values_nbytes,
    weigh,
)
from flare_async.transfer.source import TensorSource
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.tensors import TensorSet

__all__ = ["Contribution", "Lent", "Share", "Sums", "adds_in_place", "as_plain", "dtype_as_added"]


_IN_PLACE: Final = {("F32", "float32"), ("C64", "float32"), ("F64", "float64")}
_SIGNED: Final = {"U8": "I8", "U16": "I16", "U32": "I32", "U64": "I64"}


@hot_value(frozen=True, slots=True)
class Share:
    """What one site has in a partial sum: its weight, and whether it brought a model or a diff."""

    site: str
    weight: float
    kind: ParamsType


@hot_value(frozen=True, slots=True)
class Contribution:
    """One site's update on its way into the sum, or a partial sum of the sites in ``shares``."""

    site: str
    weight: float
    kind: ParamsType
    source: TensorSource
    shares: tuple[Share, ...] = ()


@runtime_checkable
class Lent(Protocol):
    """A source whose tensors may be in memory that was lent to become the accumulator."""

    def taken(self, name: str) -> memoryview | None:
        """Return that memory, to be overwritten; None where there is none."""


def is_lent(source: TensorSource) -> TypeGuard[Lent]:
    """Return whether a source may be so."""
    return hasattr(source, "taken")


class Sums:
    """Weighted sums of the tensors in ``precisions``; all others keep the model's values.

    Whole updates add ``weight * value``, diffs add ``weight * diff`` and their share of the model
    when the mean is taken. Diffs of unsigned integers are read as signed: going down by one is
    stored as the largest number.
    """

    def __init__(self, model: TensorSet, precisions: dict[str, Precision]) -> None:
        self._model = model
        self._precisions = precisions
        self._sums: dict[str, Accumulator] = {}
        self._scratch = {kind: new_scratch(kind) for kind in set(precisions.values())}
        self._weight = 0.0
        self._diff_weight = 0.0

    @property
    def weight(self) -> float:
        """The total weight so far."""
        return self._weight

    def adding(self, contribution: Contribution) -> Iterator[None]:
        """Add one update, yielding after every chunk; it counts when the last one is added."""
        for name in self._precisions:
            yield from self._adding(self._model.spec(name), contribution)
        self._weight += contribution.weight
        if contribution.kind is ParamsType.DIFF:
            self._diff_weight += contribution.weight

    def mean(self) -> TensorSet:
        """Return the new model and let go of the accumulators, tensor by tensor.

        The division is done in the accumulator; where it has the tensor's own type, its memory
        becomes the new tensor.
        """
        views: dict[str, memoryview] = {}
        for _ in self.taking(views):
            pass
        return self.model_of(views)

    def taking(self, views: dict[str, memoryview]) -> Iterator[None]:
        """Do what ``mean`` does into ``views``, yielding after every tensor."""
        for spec in self._model.specs:
            if spec.name in self._precisions:
                views[spec.name] = self._mean_of(spec)
                yield
            elif spec.name not in self._model.aliases:
                views[spec.name] = self._model[spec.name]

    def model_of(self, views: dict[str, memoryview]) -> TensorSet:
        """Return what ``taking`` has made as a model."""
        return TensorSet.from_views(self._model.specs, views, self._model.aliases)

    def _adding(self, spec: TensorSpec, contribution: Contribution) -> Iterator[None]:
        lent = self._lent(spec, contribution)
        if lent is not None:
            yield from weigh(lent, contribution.weight)
            return
        scratch = self._scratch[self._precisions[spec.name]]
        dtype = dtype_as_added(spec, contribution.kind)
        width = values_nbytes(dtype)
        at = 0
        for chunk in contribution.source.chunks(spec.name):
            end = at + chunk.nbytes // width
            if not is_zeros(chunk):
                acc = self._accumulator(spec)
                accumulate(acc[at:end], Addend(dtype, chunk, contribution.weight), scratch)
            at = end
            yield

    def _lent(self, spec: TensorSpec, contribution: Contribution) -> Accumulator | None:
        """Return a tensor of the first update as the accumulator that it is in already."""
        source = contribution.source
        if spec.name in self._sums or not is_lent(source):
            return None
        view = source.taken(spec.name)
        if view is None:
            return None
        acc: Accumulator = np.frombuffer(view, self._precisions[spec.name])
        self._sums[spec.name] = acc
        return acc

    def _accumulator(self, spec: TensorSpec) -> Accumulator:
        acc = self._sums.get(spec.name)
        if acc is None:
            size = spec.nbytes // values_nbytes(spec.dtype)
            acc = self._sums[spec.name] = np.zeros(size, self._precisions[spec.name])
        return acc

    def _mean_of(self, spec: TensorSpec) -> memoryview:
        if spec.name not in self._sums and (
            not self._diff_weight or is_zeros(self._model[spec.name])
        ):
            return zeros(spec.nbytes)
        acc = self._accumulator(spec)
        del self._sums[spec.name]
        np.divide(acc, self._weight, out=acc)
        if self._diff_weight:
            share = self._diff_weight / self._weight
            addend = Addend(spec.dtype, self._model[spec.name], share)
            accumulate(acc, addend, self._scratch[self._precisions[spec.name]])
        if adds_in_place(spec, self._precisions[spec.name]):
            return acc.view(np.uint8).data
        result = np.empty(spec.nbytes, np.uint8)
        width = values_nbytes(spec.dtype)
        step = CHUNK // width
        for at in range(0, acc.size, step):
            part = narrow(spec.dtype, acc[at : at + step])
            result[at * width : (at + part.size) * width] = part.view(np.uint8)
        return result.data


def adds_in_place(spec: TensorSpec, precision: Precision) -> bool:
    """Return whether a tensor has the very type of its accumulator."""
    return (spec.dtype, precision) in _IN_PLACE


def dtype_as_added(spec: TensorSpec, kind: ParamsType) -> str:
    """Return as what type the values of an update are read."""
    return _SIGNED.get(spec.dtype, spec.dtype) if kind is ParamsType.DIFF else spec.dtype


def as_plain(weight: float) -> float:
    """Return a number of NumPy's as Python's own: the former would choose the type of a product."""
    return weight.item() if isinstance(weight, np.generic) else weight
