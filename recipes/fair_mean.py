"""The sum of q-FedAvg: updates weighed by their losses, and a step as long as they allow."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from flare_async.limits import Limits
from flare_async.model import ParamsType
from flare_async.recipes.schedules import Constant
from flare_async.recipes.server_optimizers import SGD
from flare_async.recipes.server_step import RuleStep
from flare_async.transfer.kernel import widen
from flare_async.transfer.mean import MeanOptions, WeightedMean
from flare_async.transfer.mean_options import SumRules
from flare_async.transfer.source import TensorSource
from flare_async.transfer.staging import StagedUpdate
from flare_async.transfer.tensors import TensorSet

__all__ = ["FairMean", "FairRule"]

FLOOR = 1e-10  # of a loss, so that one of 0 has a weight and a power


@dataclass(frozen=True, slots=True)
class FairRule:
    """The exponent ``q``, the sites' learning rate, and the tensors whose moves are measured."""

    q: float
    lr: float
    names: Collection[str]


class FairMean(WeightedMean):
    """A ``WeightedMean`` whose weights are losses, and whose result is q-FedAvg's next model.

    Holds what a mean holds. Each update is read once more when it is admitted, for its distance
    from the model, so updates come one by one: relays pass them on and add nothing.
    """

    def __init__(
        self,
        model: TensorSet,
        *,
        order: Sequence[str],
        rule: FairRule,
        limits: Limits | None = None,
        options: MeanOptions | None = None,
    ) -> None:
        super().__init__(model, order=order, limits=limits, options=options)
        self._rule = rule
        self._losses: dict[str, float] = {}
        self._squares: dict[str, float] = {}

    def group(self, groups: Sequence[Sequence[str]]) -> SumRules | None:
        """Return None: every update must come by itself."""
        del groups
        return None

    def stage(self, site: str, weight: float, kind: ParamsType | None = None) -> StagedUpdate:
        """Return the sink for a site's update; ``weight`` is its loss. See ``WeightedMean``."""
        self._losses[site] = max(weight, FLOOR)
        return super().stage(site, self._losses[site] ** self._rule.q, kind)

    def checking(self, site: str) -> Iterator[None]:
        """Check a whole update, and measure how far it is from the model; raises as its base."""
        yield from super().checking(site)
        staged = self._sum.waiting[site]
        total = 0.0
        for name in self._rule.names:
            for squares in self._distances(staged.update, name, staged.contribution.kind):
                total += squares
                yield
        self._squares[site] = total

    def finish(self) -> TensorSet:
        """Return the next model; raises as ``WeightedMean.finish`` does."""
        mean = super().finish()
        committed = [site for site, _ in self.statistics.sites]
        step = RuleStep(SGD(lr=self.stride(committed)), Constant(), self._rule.names)
        return step.step(self._model, mean)

    def stride(self, sites: Sequence[str]) -> float:
        """Return how far to go from the model towards the mean: 1 is all of the way."""
        q, lipschitz = self._rule.q, 1 / self._rule.lr
        weights, bounds = 0.0, 0.0
        for site in sites:
            loss = self._losses[site]
            weights += loss**q
            moved = lipschitz**2 * self._squares[site]
            bounds += q * loss ** (q - 1) * moved + lipschitz * loss**q
        return lipschitz * weights / bounds

    def _distances(self, update: TensorSource, name: str, kind: ParamsType) -> Iterator[float]:
        spec, at = self._model.spec(name), 0
        for chunk in update.chunks(name):
            moved = widen(spec.dtype, chunk).astype(np.float64)
            if kind is not ParamsType.DIFF:
                old = self._model[name][at : at + chunk.nbytes]
                moved -= widen(spec.dtype, old).astype(np.float64)
            at += chunk.nbytes
            yield float(np.dot(moved, moved))
