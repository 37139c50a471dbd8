"""What a mean lets into its sum: the model's tensors, finite, within the limits that were set."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence

import numpy as np

from flare_async.errors import UpdateRefused
from flare_async.model import ParamsType
from flare_async.transfer.admission import Admission
from flare_async.transfer.exact import FixedPoint, partial_specs
from flare_async.transfer.kernel import largest
from flare_async.transfer.mean_bounds import MIN_WEIGHT, Bounds
from flare_async.transfer.mean_look import Looks, is_seen
from flare_async.transfer.mean_options import MeanOptions
from flare_async.transfer.norm import NormLimit
from flare_async.transfer.precision import excluded_names, precisions
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.sums import Contribution, dtype_as_added
from flare_async.transfer.tensors import TensorSet

__all__ = ["MeanGate"]


class MeanGate:
    """Checks updates and partial sums against a model and the options of a mean of ``sites``.

    Raises:
        ConfigError: an option cannot be used with this model.
    """

    def __init__(self, model: TensorSet, options: MeanOptions, sites: int) -> None:
        self.ignored = excluded_names(model, options.exclude)
        self.precisions = precisions(model, options.accumulator, self.ignored)
        self._model = model
        self._whole = Admission(model.specs, aliases=model.aliases, ignored=self.ignored)
        self.norm = None if options.max_norm is None else NormLimit(options.max_norm)
        self.fixed: FixedPoint | None = None
        self._partial = self._whole
        most = options.exact_sites or max(1, sites)
        if options.exact:
            self.fixed = FixedPoint(options.scale_bits, most)
            summed = [spec for spec in model.specs if spec.name in self.precisions]
            self._partial = Admission(partial_specs(summed))
        self._bounds = Bounds(model, most, self.fixed)
        self._dtypes: dict[ParamsType, dict[str, str]] = {}  # as what values are read

    def check_specs(self, site: str, specs: Sequence[TensorSpec]) -> None:
        """Check an update's names, types and shapes.

        Raises:
            UpdateRefused: with the first five differences.
        """
        self._whole.check_specs(site, specs)

    def check_partial_specs(self, site: str, specs: Sequence[TensorSpec]) -> None:
        """Check a partial sum's names, types and shapes.

        Raises:
            UpdateRefused: with the first five differences.
        """
        self._partial.check_specs(site, specs)

    def check_weight(self, site: str, weight: float) -> None:
        """Check one site's weight.

        Raises:
            UpdateRefused: it is no number from 2**-53 to 2**53, or less than a step of an exact
                sum.
        """
        self._whole.check_weight(site, weight)
        least = MIN_WEIGHT if self.fixed is None else max(MIN_WEIGHT, 2.0**-self.fixed.bits)
        if weight < least:
            raise UpdateRefused(site, f"weight {weight:.3g} is below {least:.3g}: nothing is left")

    def looks(self, kind: ParamsType) -> Looks:
        """Return what looks at an update of that kind as it comes."""
        dtypes = self._dtypes.get(kind)
        if dtypes is None:  # once a round, not once an update
            specs = (self._model.spec(name) for name in self.precisions)
            dtypes = {spec.name: dtype_as_added(spec, kind) for spec in specs}
            self._dtypes[kind] = dtypes
        return Looks(dtypes)

    def checking(self, contribution: Contribution) -> Iterator[None]:
        """Check what is whole, yielding after every chunk that has to be read.

        A limit of norms is for updates: whoever added a partial sum has held its sites to it.

        Raises:
            UpdateRefused: naming the site, the tensor where there is one, and the numbers.
        """
        site, source = contribution.site, contribution.source
        for share in contribution.shares or (contribution,):
            self.check_weight(share.site, share.weight)
        if contribution.shares and self.fixed is not None:
            self._partial.check_specs(site, source.specs)
            yield from self.fixed.checking_partial(contribution)
            return
        self._whole.check_specs(site, source.specs)
        yield from self.looking(contribution)
        same = source.aliases
        if any(
            same.get(n, n) != same.get(first, first) for n, first in self._model.aliases.items()
        ):
            yield from self._whole.checking(site, source, 1.0)  # ties must have the same bytes

    def looking(self, contribution: Contribution) -> Iterator[None]:
        """Check the values of the tensors that are there; yields and raises as ``checking``.

        What is added is looked at under every name that it is added for: an update may tie what
        the model does not, even to a tensor that is excluded.
        """
        source = contribution.source
        given = {spec.name for spec in source.specs}
        for name, precision in self.precisions.items():
            if name not in given:
                continue
            spec = self._model.spec(name)
            known = source.largest(name) if is_seen(source) else None
            if known is None or self._limits(contribution):
                known = yield from self._read(contribution, spec)
            yield from self._bounds.checking(contribution, spec, precision, known)

    def _limits(self, contribution: Contribution) -> bool:
        return self.norm is not None and not contribution.shares

    def _read(self, contribution: Contribution, spec: TensorSpec) -> Generator[None, None, float]:
        site, dtype = contribution.site, dtype_as_added(spec, contribution.kind)
        norm = self.norm if self._limits(contribution) else None
        top, squares, at = 0.0, 0.0, 0
        for chunk in contribution.source.chunks(spec.name):
            found, end = largest(dtype, chunk), at + chunk.nbytes
            if math.isnan(found):
                problem = f"a value in bytes {at} to {end} is not finite"
                raise UpdateRefused(site, problem, spec.name)
            top, at = max(top, found), end
            if norm is not None:
                with np.errstate(over="ignore"):
                    squares += norm.squares(spec, chunk)
            yield
        if norm is not None:
            norm.check(site, spec.name, squares)
        return top
