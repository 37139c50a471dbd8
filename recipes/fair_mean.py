"""The sum of q-FedAvg: updates weighed by their losses, and a step as long as they allow."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from flare_async.errors import UpdateRefused
from flare_async.limits import Limits
from flare_async.model import ParamsType
from flare_async.recipes.schedules import Constant
from flare_async.recipes.server_optimizers import SGD
from flare_async.recipes.server_step import RuleStep
from flare_async.transfer.kernel import widen
from flare_async.transfer.mean import MeanOptions, WeightedMean
from flare_async.transfer.mean_gate import MeanGate
from flare_async.transfer.mean_options import SumRules
from flare_async.transfer.source import TensorSource
from flare_async.transfer.staging import StagedUpdate
from flare_async.transfer.tensors import TensorSet

__all__ = ["FairMean", "FairRule"]

FLOOR: Final = 1e-10  # of a loss, so that one of 0 has a weight and a power
MOST: Final = 1e100  # of a loss's power: float64 holds its product with any value
LEAST: Final = 1 / MOST  # of a power; what is below counts for nothing beside any other


@dataclass(frozen=True, slots=True)
class FairRule:
    """The exponent ``q``, the sites' learning rate, and the tensors whose moves are measured."""

    q: float
    lr: float
    names: Collection[str]


class FairGate(MeanGate):
    """Lets weights be powers of losses, as small and as large as sums in float64 allow."""

    def check_weight(self, site: str, weight: float) -> None:
        """Check one site's weight, if there are sums in float32. Raises UpdateRefused."""
        if "float32" in self.precisions.values():
            super().check_weight(site, weight)


class FairMean(WeightedMean):
    """A ``WeightedMean`` whose weights are losses, and whose result is q-FedAvg's next model.

    Holds what a mean holds. Each update is read once more when it is admitted, for its distance
    from the model, so updates come one by one: relays pass them on and add nothing.
    """

    gate_type = FairGate

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
        """Return the sink for a site's update; ``weight`` is its loss. See ``WeightedMean``.

        Raises:
            UpdateRefused: the power of the loss is more than a sum can hold.
            LocalProtocolError: the site is not of the cohort or settled, or the mean has ended.
        """
        loss, q = max(weight, FLOOR), self._rule.q
        if q * math.log(loss) > math.log(MOST):
            raise UpdateRefused(site, f"its loss {loss:.3g} to the power of {q:g} is above {MOST}")
        self._losses[site] = loss
        return super().stage(site, max(loss**q, LEAST), kind)

    def checking(self, site: str) -> Iterator[None]:
        """Check a whole update, and measure how far it is from the model; raises as its base."""
        yield from super().checking(site)
        staged = self._sum.waiting[site]
        total = 0.0
        for name in self._rule.names:
            for squares in self._distances(staged.update, name, staged.contribution.kind):
                total += squares
                yield
        if not math.isfinite(total):
            self.discard(site)
            raise UpdateRefused(site, "its squared distance from the model is not finite")
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
        top = max(self._losses[site] for site in sites)  # powers of its parts cannot all be 0
        for site in sites:
            part = self._losses[site] / top
            weights += part**q
            moved = lipschitz**2 * self._squares[site]
            bounds += q * part ** (q - 1) / top * moved + lipschitz * part**q
        return lipschitz * weights / bounds

    def _distances(self, update: TensorSource, name: str, kind: ParamsType) -> Iterator[float]:
        spec, at = self._model.spec(name), 0
        for chunk in update.chunks(name):
            moved = widen(spec.dtype, chunk).astype(np.float64)
            if kind is not ParamsType.DIFF:
                old = self._model[name][at : at + chunk.nbytes]
                moved -= widen(spec.dtype, old).astype(np.float64)
            at += chunk.nbytes
            with np.errstate(over="ignore"):
                yield float(np.dot(moved, moved))
