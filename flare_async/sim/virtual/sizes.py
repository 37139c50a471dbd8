"""Recipes of which only sizes count: no user code, models of the zero page."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

from flare_async.errors import ConfigError
from flare_async.jobs.filters.chains import FilterChains
from flare_async.jobs.recipe import Recipe
from flare_async.jobs.site import Site
from flare_async.jobs.training import TrainOutcome, TrainTask
from flare_async.jobs.work import Work
from flare_async.model import FLModel
from flare_async.net.zeros import zeros
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.tensors import TensorSet

__all__ = ["outcome_of_sizes", "sized", "work_of_sizes", "zero_model"]


def sized(recipe: Recipe, nbytes: int | None = None) -> Recipe:
    """Return a copy of the recipe whose model has only its size, or one of ``nbytes``.

    Filters are left out: they are user code, and bytes are those of the model as it is.

    Raises:
        ConfigError: it has no global model.
    """
    initial = getattr(recipe, "initial", None)
    if not isinstance(initial, TensorSet):
        problem = f"{type(recipe).__name__} has no global model whose size could be taken"
        raise ConfigError("payload", "sizes", problem, 'play_virtual(payload="bytes") can play it')
    made = copy.copy(recipe)
    vars(made).update(initial=zero_model(initial, nbytes), filters=FilterChains())
    return made


def zero_model(model: TensorSet, nbytes: int | None = None) -> TensorSet:
    """Return zeros like a model, or one tensor of so many bytes."""
    if nbytes is None:
        views = {spec.name: zeros(spec.nbytes) for spec in model.specs}
        return TensorSet.from_views(model.specs, views, model.aliases)
    whole = nbytes // 4 * 4
    spec = TensorSpec("model", "F32", (max(1, whole // 4),))
    return TensorSet.from_views([spec], {"model": zeros(spec.nbytes)})


def work_of_sizes(work: Work) -> Work:
    """Return the work without its code."""
    return replace(work, train=nothing, evaluate=None, script=None, framework="numpy")


def outcome_of_sizes(task: TrainTask, seconds: float) -> TrainOutcome:
    """Return an update as large as the model that came."""
    metrics: Mapping[str, float] = {}
    tensors = None if task.kind == "validate" else task.tensors
    return TrainOutcome(tensors, task.work.transfer, metrics, {}, seconds)


def nothing(model: FLModel, site: Site) -> FLModel:
    """Stand for a train function that is never called."""
    return model
