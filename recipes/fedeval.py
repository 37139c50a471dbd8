"""Federated evaluation: one model, its metrics at every site, no training.

Site k evaluates the model w on its own data of n_k examples and returns its metrics m_k. The run's
metrics are sum_k (n_k / n) m_k with n_k the ``num_examples`` among them (1 where it is absent).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flare_async.errors import ConfigError, QuorumNotReached
from flare_async.jobs.metrics import MetricMean
from flare_async.jobs.recipe_arguments import recipe_arguments
from flare_async.jobs.site import Plain, Site
from flare_async.model import FLModel
from flare_async.recipes.model_recipe import ModelRecipe
from flare_async.recipes.model_rounds import ModelRounds
from flare_async.recipes.options import OF_SUMS, refuse_options

__all__ = ["FedEvalRecipe", "refuse_training"]

UNUSED: Final = (
    *OF_SUMS,
    "exclude_vars",
    "aggregation_weights",
    "params_transfer_type",
    "patience",
)
SCRIPT_NAMES: Final = {"eval_script": "train_script", "eval_args": "train_args"}


def refuse_training(model: FLModel, site: Site) -> FLModel:
    """Stand for the training that there is none of.

    Raises:
        ConfigError: always.
    """
    raise ConfigError("train", None, f"{site.name} was asked to train by a recipe that evaluates")


@recipe_arguments
@dataclass(kw_only=True, eq=False)
class FedEvalRecipe(ModelRecipe):
    """Has every site evaluate ``model``, with the tensors of ``eval_ckpt`` if there is one.

    ``eval_script`` is a script that answers ``flare.is_evaluate()`` with metrics;
    ``evaluate(model, site)`` a function that returns them. Each site's metrics are in the history,
    their mean in ``run.history.models``. The run needs ``min_clients`` answers within
    ``validation_timeout`` seconds. The server holds the model and nothing else.

    Raises:
        ConfigError: an argument cannot be used; the error names it.
    """

    name: str = "eval"
    min_clients: int = 1
    num_rounds: int = 1
    eval_script: str | Path | None = None
    eval_args: str = ""
    eval_ckpt: str | Path | None = None
    validation_timeout: float = 6000.0

    def __post_init__(self) -> None:
        refuse_options(self, UNUSED, "every site evaluates, and nobody trains")
        if self.eval_ckpt is not None:
            self.initial_ckpt = self.eval_ckpt
        self.train_script = self.train_script or self.eval_script
        self.train_args = self.train_args or self.eval_args
        if self.train_script is None and self.evaluate is None and not self.per_site_config:
            hint = "give eval_script=path or evaluate=function(model, site)"
            raise ConfigError("eval_script", None, "nothing that evaluates", hint)
        if self.train_script is None and self.evaluate is not None:
            self.train = refuse_training
        self.per_site_config = own_names(self.per_site_config)
        self.round_timeout = self.validation_timeout
        super().__post_init__()

    async def rounds(self, play: ModelRounds) -> None:
        """Ask every site once.

        Raises:
            QuorumNotReached: fewer than ``min_clients`` sites answered.
        """
        cohort, found = play.cohort, MetricMean()
        task = cohort.task(0, 1, "validate")
        answers = 0
        async with cohort.recording(task, cohort.sites, self.min_clients) as record:
            async with cohort.round(
                task, self.initial, quorum=self.min_clients, deadline=self.validation_timeout
            ) as updates:
                async for site, update in updates:
                    metrics = dict(update.metrics)
                    answers += bool(metrics)
                    found.add(site, metrics, metrics.pop("num_examples", 1.0))
            if answers < self.min_clients:
                raise QuorumNotReached(0, answers, self.min_clients, dict(updates.failures))
            record.metrics = found.mean(cohort.sites)
        await play.judge.judged(cohort, self.initial, 0, record.metrics, last=True)


def own_names(
    config: Mapping[str, Mapping[str, Plain]] | None,
) -> Mapping[str, Mapping[str, Plain]] | None:
    """Return sites' options under the names that scripts have elsewhere."""
    if config is None:
        return None
    return {
        site: {SCRIPT_NAMES.get(key, key): value for key, value in own.items()}
        for site, own in config.items()
    }
