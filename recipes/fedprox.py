"""FedProx: federated averaging of sites that stay near the global model.

Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020, algorithm 2. In round t
site k minimises, by some local steps and as far as it gets,

    h_k(w; w_t) = F_k(w) + mu / 2 * ||w - w_t||^2

and the server averages as in FedAvg. The term is the site's: ``PTFedProxLoss`` and
``TFFedProxLoss`` of ``flare_async.client.fedprox`` compute it, with the weight that comes as
``model.meta["fedprox_mu"]``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from flare_async.errors import ConfigError
from flare_async.jobs.recipe_arguments import recipe_arguments
from flare_async.recipes.algorithm import Algorithm
from flare_async.recipes.model_recipe import ModelRecipe

__all__ = ["FedProxRecipe", "SiteNumber"]


@recipe_arguments
@dataclass(kw_only=True, eq=False)
class FedProxRecipe(ModelRecipe):
    """FedAvg whose sites get ``mu``, the weight of their proximal term; see ``ModelRecipe``.

    Raises:
        ConfigError: an argument cannot be used; the error names it.
    """

    name: str = "fedprox"
    mu: float = 0.01  # 0 is FedAvg

    def __post_init__(self) -> None:
        check_weight("mu", self.mu)
        super().__post_init__()

    def algorithm(self) -> Algorithm:
        """Return averaging, with ``mu`` for the sites."""
        return SiteNumber("fedprox_mu", self.mu)


class SiteNumber(Algorithm):
    """Averaging with one number in every site's ``FLModel.meta``."""

    def __init__(self, key: str, value: float) -> None:
        self._meta = {key: float(value)}

    def meta(self, number: int) -> Mapping[str, float]:
        """Return the number; it is the same in all rounds."""
        del number
        return self._meta


def check_weight(field: str, value: object) -> None:
    """Refuse what is no finite number from 0 on. Raises ConfigError."""
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ConfigError(field, value, "a number from 0 on is needed")
