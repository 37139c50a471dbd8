"""Federated averaging (FedAvg).

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
AISTATS 2017, algorithm 1. In round t every site k of the cohort starts from the global model w_t
and returns its own w_t^k after some local steps; the next model is

    w_{t+1} = sum_k (n_k / n) w_t^k        with n = sum_k n_k,

where n_k is ``meta["NUM_STEPS_CURRENT_ROUND"]`` of the update (1 where it is absent) times the
site's ``aggregation_weights``. A site may return a difference instead (``ParamsType.DIFF``); then
the mean difference is added to w_t. ``model_rounds.py`` has the rounds.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass

from flare_async.errors import ConfigError
from flare_async.jobs.memory_demand import ModelDemand
from flare_async.jobs.recipe_arguments import recipe_arguments
from flare_async.limits import Limits
from flare_async.recipes.aggregating import aggregating_demand, reducer_of
from flare_async.recipes.aggregators import Aggregating
from flare_async.recipes.model_recipe import ModelRecipe
from flare_async.transfer.reducer import Reducer
from flare_async.transfer.robust_rules import robust_rule
from flare_async.transfer.tensors import TensorSet

__all__ = ["DATA_KINDS", "FedAvgRecipe"]

DATA_KINDS = (None, "WEIGHTS", "WEIGHT_DIFF")


@recipe_arguments
@dataclass(kw_only=True, eq=False)
class FedAvgRecipe(ModelRecipe):
    """FedAvg for PyTorch, TensorFlow, NumPy and scikit-learn models; see ``ModelRecipe``.

    ``aggregator`` replaces the mean: the name or object of a robust rule ("median", ...), or an
    object with ``accept_model(model)``, ``aggregate_model()`` and ``reset_stats()``, which is
    handed the updates in the order of the cohort when all of a round are there.

    Raises:
        ConfigError: an argument cannot be used; the error names it.
    """

    name: str = "fedavg"
    aggregator: object = None
    aggregator_data_kind: object = None  # accepted: each update says what it is

    def __post_init__(self) -> None:
        if self.aggregator_data_kind not in DATA_KINDS:
            problem = "is neither WEIGHTS nor WEIGHT_DIFF"
            raise ConfigError("aggregator_data_kind", self.aggregator_data_kind, problem)
        if self.aggregator is not None and self.aggregation_weights:
            problem = "has no part in what an aggregator does"
            raise ConfigError("aggregation_weights", dict(self.aggregation_weights), problem)
        super().__post_init__()
        rule = robust_rule(self.aggregator)
        if rule is not None and self.min_clients < rule.least:
            problem = f"{rule} needs {rule.least} updates"
            raise ConfigError("min_clients", self.min_clients, problem)

    def reducer(
        self, model: TensorSet, sites: tuple[str, ...], limits: Limits | None = None
    ) -> AbstractContextManager[Reducer]:
        """Return the mean, or what ``aggregator`` stands for. Raises ConfigError."""
        if self.aggregator is None:
            return super().reducer(model, sites, limits)
        if self.staging == "repull":
            raise ConfigError("staging", "repull", "is for means", "leave it out with aggregator=")
        setting = Aggregating(
            model=model,
            order=sites,
            limits=limits,
            options=self.mean_options(model),
            framework=self._kind,
        )
        return reducer_of(self.aggregator, setting)

    def demand(self) -> ModelDemand | None:
        """Return what a mean needs; with ``aggregator`` all updates of a round are held besides."""
        mean = super().demand()
        return mean if mean is None else aggregating_demand(self.aggregator, mean, self._asked())

    def _asked(self) -> int | None:
        """Return how many sites a round asks; None is all of them."""
        size = self.clients_per_round
        return None if size is None else math.ceil(size * self.over_select)
