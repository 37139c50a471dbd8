"""q-FedAvg: sites with a large loss count more, so that the model serves all of them.

Li et al., "Fair Resource Allocation in Federated Learning", ICLR 2020, algorithm 2. With F_k the
loss of the received model w_t at site k, w_t^k what the site returns, and L = 1 / lr,

    dw_k = L * (w_t - w_t^k)
    D_k  = F_k^q * dw_k
    h_k  = q * F_k^(q-1) * ||dw_k||^2 + L * F_k^q
    w_{t+1} = w_t - sum_k D_k / sum_k h_k

With q = 0 this is the plain mean of FedAvg; the larger q, the more uniform the losses become. The
server computes it as w_t + s * (m - w_t), with m the mean weighted by F_k^q and
s = L * sum_k F_k^q / sum_k h_k, in one pass and without a copy of any update.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from flare_async.errors import ConfigError, UpdateRefused
from flare_async.jobs.recipe_arguments import recipe_arguments
from flare_async.limits import Limits
from flare_async.recipes.fair_mean import FLOOR, FairMean, FairRule
from flare_async.recipes.fedprox import check_weight
from flare_async.recipes.model_checks import is_finite
from flare_async.recipes.trained_recipe import TrainedModelRecipe
from flare_async.roles.messages import Scalar
from flare_async.roles.round import Update
from flare_async.transfer.mean_bounds import MIN_WEIGHT
from flare_async.transfer.reducer import Reducer
from flare_async.transfer.tensors import TensorSet

__all__ = ["QFedAvgRecipe"]

MOST_LOSS: Final = 2.0**53  # as of any weight


@recipe_arguments
@dataclass(kw_only=True, eq=False)
class QFedAvgRecipe(TrainedModelRecipe):
    """q-FedAvg; see ``ModelRecipe`` for the other arguments.

    Every update must bring ``meta["loss"]``, the loss of the model as it was received, over the
    site's own data. ``lr`` is 1 / L, in the paper the learning rate of the sites; where they take
    many steps it may be larger, or the server's steps are short. Relays do not add updates here.
    Metrics are weighed by steps, as in FedAvg. Unless it is given, ``accumulator`` is float64 where
    ``q`` is above 1.59: in float32 a site is refused whose loss to the power of ``q`` is not from
    2**-53 to 2**53.

    Raises:
        ConfigError: an argument cannot be used; the error names it.
    """

    name: str = "qfedavg"
    q: float = 1.0
    lr: float = 0.1
    loss_key: str = "loss"

    def __post_init__(self) -> None:
        check_weight("q", self.q)
        if not is_finite(self.lr) or self.lr <= 0:
            raise ConfigError("lr", self.lr, "a number above 0 is needed")
        for name, bad in (("staging", "repull"), ("exact", True)):
            if getattr(self, name) == bad:
                raise ConfigError(name, bad, "cannot be used with q-FedAvg", "leave it out")
        if self.aggregation_weights:
            raise ConfigError("aggregation_weights", dict(self.aggregation_weights), "losses weigh")
        if self.accumulator is None and FLOOR**self.q < MIN_WEIGHT:
            self.accumulator = "float64"  # powers of losses leave the range of sums in float32
        super().__post_init__()

    def weigh(self, site: str, meta: Mapping[str, Scalar]) -> float:
        """Return the site's loss.

        Raises:
            UpdateRefused: there is none, it is negative or not finite, or the steps are no number.
        """
        super().weigh(site, meta)  # by which its metrics are weighed
        loss = meta.get(self.loss_key)
        if isinstance(loss, bool) or not isinstance(loss, int | float):
            raise UpdateRefused(site, f"meta[{self.loss_key!r}] is {loss!r:.40}, a loss is needed")
        if not 0 <= loss <= MOST_LOSS:
            raise UpdateRefused(site, f"its loss is {loss}, a number from 0 to 2**53 is needed")
        return max(float(loss), FLOOR)

    def trained(self, update: Update) -> tuple[Mapping[str, float], float]:
        """Return the metrics of training, and the steps as their weight: the loss is none."""
        return update.metrics, super().weigh(update.site, update.meta)

    def reducer(
        self, model: TensorSet, sites: tuple[str, ...], limits: Limits | None = None
    ) -> AbstractContextManager[Reducer]:
        """Return the sum that weighs by losses. Raises ConfigError."""
        options = self.mean_options(model)
        rule = FairRule(self.q, self.lr, self.stepped)
        return FairMean(model, order=sites, rule=rule, limits=limits, options=options)
