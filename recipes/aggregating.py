"""What ``aggregator=`` stands for: a rule's mean or somebody's object, and what either holds."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Final

from flare_async.errors import ConfigError
from flare_async.jobs.memory_demand import ModelDemand
from flare_async.recipes.aggregators import AggregatedUpdates, Aggregating, ModelAggregator
from flare_async.transfer.kernel import CHUNK
from flare_async.transfer.reducer import Reducer
from flare_async.transfer.robust import BLOCKS, RobustMean
from flare_async.transfer.robust_rules import robust_rule

__all__ = ["aggregating_demand", "reducer_of"]

METHODS: Final = ("accept_model", "aggregate_model", "reset_stats")


def reducer_of(aggregator: object, setting: Aggregating) -> AbstractContextManager[Reducer]:
    """Return the reducer for ``aggregator=``.

    Raises:
        ConfigError: it is no rule and no aggregator, or cannot be used with the options.
    """
    rule = robust_rule(aggregator)
    if rule is not None:
        return RobustMean(
            setting.model,
            rule,
            order=setting.order,
            limits=setting.limits,
            options=setting.options,
        )
    lacking = [name for name in METHODS if not callable(getattr(aggregator, name, None))]
    if lacking or not isinstance(aggregator, ModelAggregator):
        problem = f"{type(aggregator).__name__} has no {', '.join(lacking)}"
        hint = "give an object with accept_model, aggregate_model and reset_stats, or a rule's name"
        raise ConfigError("aggregator", aggregator, problem, hint)
    if setting.options.exact:
        raise ConfigError("exact", True, "an aggregator's arithmetic is its own", "leave it out")
    return AggregatedUpdates(aggregator, setting)


def aggregating_demand(
    aggregator: object, mean: ModelDemand, asked: int | None = None
) -> ModelDemand:
    """Return what a round of ``asked`` sites holds with ``aggregator=``, from what a mean needs.

    A rule reads a chunk of each update at a time. Any other aggregator may keep every model that it
    is handed, unless its ``models_held`` says how many models it holds; beside these are an update
    on its way to it, and the new model.
    """
    if aggregator is None:
        return mean
    if robust_rule(aggregator) is not None:
        each, made = min(CHUNK, mean.largest), mean.model + BLOCKS
    else:
        own: object = getattr(aggregator, "models_held", None)
        each, kept = (0, own) if type(own) is int else (mean.model, 0)
        made = mean.accumulator + mean.narrowed + (3 + kept) * mean.model
    return replace(mean, held=asked, accumulator=made, narrowed=0, per_update=each)
