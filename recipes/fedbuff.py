"""Federated learning with buffered asynchronous aggregation (FedBuff).

Nguyen et al., "Federated Learning with Buffered Asynchronous Aggregation", AISTATS 2022,
algorithm 1. ``concurrency`` sites train at a time, each from the version of the model that was the
newest when it began. A site that began from w_tau and returns after version t was formed
contributes its difference D_k = w_tau^k - w_tau with staleness s_k = t - tau. When K differences
are there (``buffer_size``), the next version is

    w_{t+1} = w_t + global_lr * (1 / K) * sum_k a(s_k) D_k        with a(s) = 1 / sqrt(1 + s).

With ``weighted`` the mean is weighted by the steps n_k that sites report: n_k / sum_j n_j takes the
place of 1 / K. ``staleness="edge"`` is a(s) = 1 / (1 + sqrt(s)), as in NVFlare's Edge recipes.
Within a version differences are added in the order of the cohort, not in that of arrival.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flare_async.errors import ConfigError
from flare_async.jobs.recipe import positive
from flare_async.jobs.recipe_arguments import recipe_arguments
from flare_async.model import ParamsType
from flare_async.recipes.async_recipe import AsyncRecipe
from flare_async.recipes.model_checks import is_finite
from flare_async.recipes.staleness import Staleness
from flare_async.roles.messages import Scalar

__all__ = ["FedBuffRecipe"]


@recipe_arguments
@dataclass(kw_only=True, eq=False)
class FedBuffRecipe(AsyncRecipe):
    """FedBuff: the mean of ``buffer_size`` differences makes a version, however old they are.

    The arguments are those of ``AsyncRecipe`` and of FedAvg, as far as they make sense without
    rounds. Sites send differences, whatever ``params_transfer_type`` says.

    Raises:
        ConfigError: an argument cannot be used; the error names it.
    """

    name: str = "fedbuff"
    buffer_size: int = 10
    global_lr: float = 1.0
    staleness: str | Staleness = "inverse_sqrt"
    kind = ParamsType.DIFF
    weighted: bool = False  # by the steps that sites report, and aggregation_weights

    def __post_init__(self) -> None:
        positive("buffer_size", self.buffer_size)
        if not is_finite(self.global_lr) or self.global_lr <= 0:
            raise ConfigError("global_lr", self.global_lr, "a number above 0 is needed")
        super().__post_init__()

    def updates_needed(self) -> int:
        """Return the size of the buffer."""
        return self.buffer_size

    def weigh(self, site: str, meta: Mapping[str, Scalar]) -> float:
        """Return an update's weight: 1, or with ``weighted`` as in FedAvg. Raises UpdateRefused."""
        return super().weigh(site, meta) if self.weighted else 1.0

    def factors(self, weights: Sequence[float], ages: Sequence[int]) -> tuple[float, list[float]]:
        """Return 1, and for each difference its part of the step."""
        total = sum(weights)
        ageing = [self.age_factor(age) for age in ages]
        parts = zip(weights, ageing, strict=True)
        return 1.0, [self.global_lr * weight / total * factor for weight, factor in parts]
