"""Asynchronous federated averaging: every update is mixed into the model as it comes.

Xie et al., "Asynchronous Federated Optimization" (FedAsync), OPT 2019, algorithm 1. A site that
began from version tau and returns its model w^k after version t was formed makes version t + 1:

    w_{t+1} = (1 - alpha_t) w_t + alpha_t w^k        with alpha_t = alpha * s(t - tau),

where s is ``"constant"`` (1), ``"polynomial"`` ((1 + x) ** -0.5) or ``"hinge"`` (1 up to 4, then
1 / (10 (x - 4) + 1)); ``flare_async.recipes.staleness`` has them with other constants. The paper's
proximal term belongs into the sites' training: see ``FedProxRecipe``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flare_async.errors import ConfigError
from flare_async.jobs.recipe_arguments import recipe_arguments
from flare_async.recipes.async_recipe import AsyncRecipe
from flare_async.recipes.model_checks import is_finite
from flare_async.recipes.staleness import Staleness
from flare_async.roles.messages import Scalar

__all__ = ["AsyncFedAvgRecipe"]


@recipe_arguments
@dataclass(kw_only=True, eq=False)
class AsyncFedAvgRecipe(AsyncRecipe):
    """FedAsync: a version an update, mixed in by ``alpha``, less where it is old.

    The arguments are those of ``AsyncRecipe`` and of FedAvg, as far as they make sense without
    rounds. Steps that sites report have no part in it; a site's ``aggregation_weights`` multiply
    its alpha, of which more than 1 counts as 1.

    Raises:
        ConfigError: an argument cannot be used; the error names it.
    """

    name: str = "async_fedavg"
    alpha: float = 0.6
    staleness: str | Staleness = "polynomial"

    def __post_init__(self) -> None:
        if not is_finite(self.alpha) or not 0 < self.alpha <= 1:
            raise ConfigError("alpha", self.alpha, "a number above 0 and up to 1 is needed")
        super().__post_init__()

    def updates_needed(self) -> int:
        """Return 1: every update makes a version."""
        return 1

    def weigh(self, site: str, meta: Mapping[str, Scalar]) -> float:
        """Return the site's own factor."""
        del meta
        return (self.aggregation_weights or {}).get(site, 1.0)

    def factors(self, weights: Sequence[float], ages: Sequence[int]) -> tuple[float, list[float]]:
        """Return one minus alpha, and alpha."""
        alpha = min(1.0, self.alpha * weights[0] * self.age_factor(ages[0]))
        return 1.0 - alpha, [alpha]
