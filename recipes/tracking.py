"""Experiment tracking for any recipe: TensorBoard, MLflow or Weights & Biases at the server."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Final, cast

from flare_async.errors import ConfigError
from flare_async.jobs.recipe import Recipe
from flare_async.jobs.trackers.feed import Tracker
from flare_async.jobs.trackers.mlflow_runs import MLflowTracker
from flare_async.jobs.trackers.tensorboard import TensorBoardTracker
from flare_async.jobs.trackers.wandb_runs import WandBTracker

__all__ = ["TRACKING_TYPES", "add_experiment_tracking"]

TRACKING_TYPES: Final[Mapping[str, type[TensorBoardTracker | MLflowTracker | WandBTracker]]] = {
    "tensorboard": TensorBoardTracker,
    "mlflow": MLflowTracker,
    "wandb": WandBTracker,
}


def add_experiment_tracking(
    recipe: Recipe,
    tracking_type: str,
    tracking_config: Mapping[str, object] | None = None,
    client_side: bool = False,
    server_side: bool = True,
) -> None:
    """Send what the sites of a recipe log to a tracker at the server as well.

    ``tracking_config`` are the tracker's options. Several trackers may be added.

    Raises:
        ConfigError: an unknown type or option, or a tracker at the sites is asked for.
        MissingExtra: the tracker's library is not installed.
    """
    kind = TRACKING_TYPES.get(tracking_type)
    if kind is None:
        known = ", ".join(TRACKING_TYPES)
        raise ConfigError("tracking_type", tracking_type, f"use one of {known}")
    if client_side or not server_side:
        field, value = ("client_side", True) if client_side else ("server_side", False)
        hint = "leave it out; a script may call the tracker's own library as well"
        raise ConfigError(field, value, "trackers are fed at the server, from all sites", hint)
    options = dict(tracking_config or {})
    known_options = sorted({one.name for one in dataclasses.fields(kind)} - {"name"})
    unknown = sorted(set(options) - set(known_options))
    if unknown:
        hint = f"known: {', '.join(known_options)}"
        raise ConfigError("tracking_config", unknown, f"no options of {tracking_type}", hint)
    try:
        tracker = cast("Callable[..., Tracker]", kind)(**options)
    except (TypeError, ValueError) as exc:
        raise ConfigError("tracking_config", options, f"cannot be used: {exc}") from exc
    tracker.check()
    recipe.trackers.append(tracker)
