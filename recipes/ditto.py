"""Ditto: a global model by federated averaging, and a personal one at every site.

Li et al., "Ditto: Fair and Robust Federated Learning Through Personalization", ICML 2021,
algorithm 1. In round t site k trains the global model as in FedAvg, and beside it its own v_k,
which never leaves it, on

    F_k(v) + lambda / 2 * ||v - w_t||^2

from where v_k was after its last round. With lambda 0 it trains alone; the larger lambda, the
nearer it stays. ``PTDittoHelper`` of ``flare_async.client.ditto`` does a site's part, with the
weight that comes as ``model.meta["ditto_lambda"]``; the personal model lives in ``site.state`` or
in a variable of the script. The server sums and holds what FedAvg does.
"""

from __future__ import annotations

from dataclasses import dataclass

from flare_async.jobs.recipe_arguments import recipe_arguments
from flare_async.recipes.algorithm import Algorithm
from flare_async.recipes.fedprox import SiteNumber, check_weight
from flare_async.recipes.model_recipe import ModelRecipe

__all__ = ["DittoRecipe"]


@recipe_arguments
@dataclass(kw_only=True, eq=False)
class DittoRecipe(ModelRecipe):
    """FedAvg whose sites get ``ditto_lambda`` for personal models; see ``ModelRecipe``.

    Metrics of the personal models, under names of their own, are averaged like all others.

    Raises:
        ConfigError: an argument cannot be used; the error names it.
    """

    name: str = "ditto"
    ditto_lambda: float = 0.1

    def __post_init__(self) -> None:
        check_weight("ditto_lambda", self.ditto_lambda)
        super().__post_init__()

    def algorithm(self) -> Algorithm:
        """Return averaging, with ``ditto_lambda`` for the sites."""
        return SiteNumber("ditto_lambda", self.ditto_lambda)
