"""Sums of whole numbers: the same bits in any order, any grouping, whoever adds.

A site's value counts as ``rint(value * weight * 2**bits)`` and is added as int64. No site may bring
more than its part of what int64 holds, so whether a sum overflows depends on nobody else, and it
never does.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from flare_async.errors import UpdateRefused
from flare_async.model import ParamsType
from flare_async.transfer.kernel import (
    CHUNK,
    Accumulator,
    Addend,
    accumulate,
    narrow,
    new_scratch,
    values_nbytes,
    widen,
)
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.sums import Contribution, dtype_as_added
from flare_async.transfer.tensors import TensorSet

__all__ = ["ExactSums", "FixedPoint", "partial_specs"]

INT_BITS: Final = 8  # of a mean of integers, which is rounded to whole ones in the end
LARGEST: Final = 2**63 - 1
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """The scale of a sum and how many sites may be in it: both are fixed before it begins."""

    bits: int
    sites: int

    def factor(self, dtype: str) -> float:
        """Return how many steps a value of 1 has in a tensor of that type."""
        whole = dtype == "BOOL" or dtype[0] in "IU"
        return 2.0 ** (min(self.bits, INT_BITS) if whole else self.bits)

    def parts(self, addend: Addend, factor: float, scratch: Accumulator) -> Iterator[Accumulator]:
        """Yield the steps of a chunk's weighted values, rounded, a block of scratch at a time."""
        width = values_nbytes(addend.dtype)
        step = scratch.size * width
        for at in range(0, addend.chunk.nbytes, step):
            values = widen(addend.dtype, addend.chunk[at : at + step])
            part = scratch[: values.size]
            with np.errstate(over="ignore"):
                np.multiply(values, addend.weight, out=part, dtype=np.float64, casting="same_kind")
                np.multiply(part, factor, out=part)
            np.rint(part, out=part)
            yield part

    def check(self, contribution: Contribution, spec: TensorSpec, top: float) -> None:
        """Check that a tensor of an update fits, whose largest value is ``top``.

        Raises:
            UpdateRefused: naming the tensor, its largest value and the most that there may be.
        """
        # Multiplying and rounding keep the order, so the largest value has the largest product.
        with np.errstate(over="ignore"):
            product = np.float64(top) * contribution.weight * self.factor(spec.dtype)
        self._check(contribution.site, spec, float(np.rint(product)), LARGEST // self.sites)

    def checking_partial(self, contribution: Contribution) -> Iterator[None]:
        """Check that a partial sum has no more than its sites may bring; yields after each chunk.

        Raises:
            UpdateRefused: naming the tensor, its largest number and the most that there may be.
        """
        source = contribution.source
        most = LARGEST // self.sites * len(contribution.shares)
        for spec in source.specs:
            for chunk in source.chunks(spec.name):
                numbers = np.frombuffer(chunk, "<i8")
                low, high = int(numbers.min(initial=0)), int(numbers.max(initial=0))
                self._check(contribution.site, spec, max(-low, high), most)
                yield

    def _check(self, site: str, spec: TensorSpec, found: float, most: int) -> None:
        if not found <= most:
            problem = (
                f"weight times value is {found:.3g} steps of the fixed point, at most {most:.3g} "
                f"for each of {self.sites} sites: use fewer scale_bits, or smaller weights"
            )
            raise UpdateRefused(site, problem, spec.name)


class ExactSums:
    """What ``Sums`` is, of int64; weights are added exactly, too."""

    def __init__(self, model: TensorSet, names: Collection[str], fixed: FixedPoint) -> None:
        self._model = model
        self._specs = [spec for spec in model.specs if spec.name in names]
        self._fixed = fixed
        self._scratch = new_scratch("float64")
        self._sums: dict[str, Whole] = {}
        self._shares: list[tuple[float, ParamsType]] = []

    @property
    def weight(self) -> float:
        """The total weight so far."""
        return math.fsum(weight for weight, _ in self._shares)

    def adding(self, contribution: Contribution) -> Iterator[None]:
        """Add one update, or a partial sum; yields after every chunk."""
        for spec in self._specs:
            adding = self._adding_partial if contribution.shares else self._adding
            yield from adding(spec, contribution)
        if contribution.shares:
            self._shares += [(share.weight, share.kind) for share in contribution.shares]
        else:
            self._shares.append((contribution.weight, contribution.kind))

    def partial(self) -> TensorSet:
        """Return the sums as tensors of int64 and let go of them."""
        specs = partial_specs(self._specs)
        views = {spec.name: self._taken(spec).view(np.uint8).data for spec in self._specs}
        return TensorSet.from_views(specs, views)

    def mean(self) -> TensorSet:
        """Return the new model and let go of the accumulators, tensor by tensor."""
        views = {
            spec.name: self._model[spec.name]
            for spec in self._model.specs
            if spec.name not in self._model.aliases
        }
        for spec in self._specs:
            views[spec.name] = self._mean_of(spec)
        return TensorSet.from_views(self._model.specs, views, self._model.aliases)

    def _adding(self, spec: TensorSpec, contribution: Contribution) -> Iterator[None]:
        acc, at = self._accumulator(spec), 0
        factor, dtype = self._fixed.factor(spec.dtype), dtype_as_added(spec, contribution.kind)
        for chunk in contribution.source.chunks(spec.name):
            addend = Addend(dtype, chunk, contribution.weight)
            for part in self._fixed.parts(addend, factor, self._scratch):
                acc[at : at + part.size] += part.astype(np.int64)
                at += part.size
            yield

    def _adding_partial(self, spec: TensorSpec, contribution: Contribution) -> Iterator[None]:
        acc, at = self._accumulator(spec), 0
        for chunk in contribution.source.chunks(spec.name):
            numbers = np.frombuffer(chunk, "<i8")
            acc[at : at + numbers.size] += numbers
            at += numbers.size
            yield

    def _accumulator(self, spec: TensorSpec) -> Whole:
        acc = self._sums.get(spec.name)
        if acc is None:
            size = spec.nbytes // values_nbytes(spec.dtype)
            acc = self._sums[spec.name] = np.zeros(size, np.int64)
        return acc

    def _taken(self, spec: TensorSpec) -> Whole:
        acc = self._accumulator(spec)
        del self._sums[spec.name]
        return acc

    def _mean_of(self, spec: TensorSpec) -> memoryview:
        acc, weight = self._taken(spec), self.weight
        diffs = math.fsum(w for w, kind in self._shares if kind is ParamsType.DIFF)
        steps = self._fixed.factor(spec.dtype) * weight
        result = np.empty(spec.nbytes, np.uint8)
        width = values_nbytes(spec.dtype)
        step = CHUNK // 8
        for at in range(0, acc.size, step):
            values: Accumulator = acc[at : at + step].astype(np.float64)
            np.divide(values, steps, out=values)
            place = slice(at * width, (at + values.size) * width)
            if diffs:
                addend = Addend(spec.dtype, self._model[spec.name][place], diffs / weight)
                accumulate(values, addend, self._scratch)
            result[place] = narrow(spec.dtype, values).view(np.uint8)
        return result.data


def partial_specs(specs: Collection[TensorSpec]) -> list[TensorSpec]:
    """Return what partial sums of such tensors are."""
    return [
        TensorSpec(spec.name, "I64", (spec.nbytes // values_nbytes(spec.dtype),)) for spec in specs
    ]
