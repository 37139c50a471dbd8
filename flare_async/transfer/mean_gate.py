"""What a mean lets into its sum: the model's tensors, finite, within the limits that were set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flare_async.transfer.admission import Admission
from flare_async.transfer.exact import FixedPoint, partial_specs
from flare_async.transfer.mean_options import MeanOptions
from flare_async.transfer.norm import NormLimit
from flare_async.transfer.precision import excluded_names, precisions
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.sums import Contribution
from flare_async.transfer.tensors import TensorSet

__all__ = ["MeanGate"]


class MeanGate:
    """Checks updates and partial sums against a model and the options of a mean of ``sites``.

    Raises:
        ConfigError: an option cannot be used with this model.
    """

    def __init__(self, model: TensorSet, options: MeanOptions, sites: int) -> None:
        self._excluded = excluded_names(model, options.exclude)
        self.precisions = precisions(model, options.accumulator, self._excluded)
        self._whole = Admission(model.specs, aliases=model.aliases, ignored=self._excluded)
        self._norm = None if options.max_norm is None else NormLimit(options.max_norm)
        self.fixed: FixedPoint | None = None
        self._partial = self._whole
        if options.exact:
            self.fixed = FixedPoint(options.scale_bits, options.exact_sites or max(1, sites))
            summed = [spec for spec in model.specs if spec.name in self.precisions]
            self._partial = Admission(partial_specs(summed))

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

    def checking(self, contribution: Contribution) -> Iterator[None]:
        """Check what is whole, yielding after every chunk.

        A limit of norms is for updates: whoever added a partial sum has held its sites to it.

        Raises:
            UpdateRefused: naming the site, the tensor where there is one, and the numbers.
        """
        site, source = contribution.site, contribution.source
        admission = self._partial if contribution.shares else self._whole
        yield from admission.checking(site, source, contribution.weight)
        if contribution.shares:
            if self.fixed is not None:
                yield from self.fixed.checking_partial(contribution)
            return
        if self._norm is not None:
            yield from self._norm.checking(site, source, self._excluded)
        if self.fixed is not None:
            yield from self.fixed.checking(contribution, self._excluded)
