"""What NVFlare's job files put into ``recipe.job``: accepted where there is nothing left to add.

The two tensor streamers ask for what every transfer does here anyway. They are taken, checked and
forgotten; a warning, once a recipe, says what stands in the place of each of their parameters.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Final

from flare_async.errors import ConfigError

__all__ = [
    "REPLACEMENTS",
    "ExchangeFormat",
    "JobComponents",
    "Replacement",
    "TensorClientStreamer",
    "TensorServerStreamer",
]

PAGE: Final = "docs/migrating-from-nvflare.md"
OTHERWISE: Final = "give train= and evaluate= to the recipe, or write one (docs/recipes.md)"
# What stands in the place of other components, by how their classes' names end.
INSTEAD: Final = {
    "Streamer": "every model is streamed already: leave it out",
    "Runner": "give train=function(model, site) to the recipe",
    "Executor": "give train=function(model, site) to the recipe",
    "Learner": "give train=function(model, site) to the recipe",
    "Aggregator": "write a recipe: its coordinate() adds the updates (docs/recipes.md)",
    "Controller": "write a recipe: its coordinate() runs the rounds (docs/recipes.md)",
    "FedAvg": "use FedAvgRecipe",
    "Persistor": "give model= and initial_ckpt= to the recipe; a run's folder keeps the models",
    "Locator": "read run.model and run.best_model",
    "Selector": "give key_metric= and lower_is_better= to the recipe",
    "Filter": "change model.params in train(), where they arrive and leave",
    "Receiver": "return metrics=, or call site.log(); run.history has them",
    "str": "a train function imports and reads its files itself",
}


class ExchangeFormat(StrEnum):
    """How NVFlare hands over ``FLModel.params``; here the recipe's ``model=`` decides."""

    RAW = "raw"
    PYTORCH = "pytorch"
    NUMPY = "numpy"
    KERAS_LAYER_WEIGHTS = "keras_layer_weights"


@dataclass(frozen=True, slots=True)
class Replacement:
    """What stands in the place of a streamer's parameter, as the table in the docs says it."""

    here: str
    why: str


REPLACEMENTS: Final = {
    "format": Replacement(
        "`model=` of the recipe",
        "params are torch tensors for a PyTorch model and NumPy arrays otherwise; bytes travel, "
        "so nothing is converted",
    ),
    "tasks": Replacement(
        "nothing to list",
        "the tensors of every task and of every result are pulled",
    ),
    "tensor_send_timeout": Replacement(
        "`Limits.stall_timeout` (60 s)",
        "restarts with every byte that arrives: a large tensor or a slow link needs no other value",
    ),
    "wait_send_task_data_all_clients_timeout": Replacement(
        "`Limits.stall_timeout` for each site; `round_timeout=` of the recipe for a round",
        "no site waits for another; one that stalls is left out and the quorum goes on",
    ),
}


@dataclass(frozen=True, slots=True)
class TensorClientStreamer:
    """NVFlare's component for sites: accepted with its parameters, which change nothing here.

    Raises:
        ConfigError: a parameter is of a type that NVFlare would not take either.
    """

    format: ExchangeFormat | str = ExchangeFormat.PYTORCH
    tasks: Sequence[str] | None = None
    tensor_send_timeout: float = 30.0

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True)
class TensorServerStreamer:
    """NVFlare's component for the server: accepted with its parameters, which change nothing here.

    Raises:
        ConfigError: a parameter is of a type that NVFlare would not take either.
    """

    format: ExchangeFormat | str = ExchangeFormat.PYTORCH
    tasks: Sequence[str] | None = None
    tensor_send_timeout: float = 30.0
    wait_send_task_data_all_clients_timeout: float = 300.0

    def __post_init__(self) -> None:
        _check(self)


class JobComponents:
    """What ``recipe.job`` takes: the two tensor streamers, and nothing else."""

    __slots__ = ("_recipe", "_warned")

    def __init__(self, recipe: str) -> None:
        self._recipe = recipe
        self._warned = False

    def to_server(self, component: object, id: str | None = None) -> None:  # noqa: A002 - theirs
        """Accept a ``TensorServerStreamer``; the recipe's first streamer warns.

        Raises:
            ConfigError: it is anything else; the hint says what to use.
        """
        self._take("job.to_server", component, id, TensorServerStreamer)

    def to_clients(self, component: object, id: str | None = None) -> None:  # noqa: A002 - theirs
        """Accept a ``TensorClientStreamer``; the recipe's first streamer warns.

        Raises:
            ConfigError: it is anything else; the hint says what to use.
        """
        self._take("job.to_clients", component, id, TensorClientStreamer)

    def _take(self, field: str, component: object, name: object, kind: type[object]) -> None:
        if not isinstance(component, TensorClientStreamer | TensorServerStreamer):
            shown = repr(component) if isinstance(component, str) else type(component).__name__
            raise ConfigError(field, shown, "a recipe has no components", _instead_of(component))
        if not isinstance(component, kind):
            right = "to_server" if isinstance(component, TensorServerStreamer) else "to_clients"
            raise ConfigError(field, type(component).__name__, "is for the others", f"use {right}")
        if name is not None and not isinstance(name, str):
            raise ConfigError(f"{field}.id", name, "text is needed")
        if not self._warned:
            self._warned = True
            warnings.warn(self._warning(component), UserWarning, stacklevel=3)

    def _warning(self, component: TensorClientStreamer | TensorServerStreamer) -> str:
        text = (
            f"recipe {self._recipe!r}: every tensor is streamed already, streamers change nothing "
            f"and can be left out ({PAGE})"
        )
        for field in fields(component):
            value = getattr(component, field.name)
            if value != field.default:
                here = REPLACEMENTS[field.name].here.replace("`", "")
                text += f"; {field.name}={value!r}: {here}"
        return text


def _check(streamer: TensorClientStreamer | TensorServerStreamer) -> None:
    """Check every parameter of a streamer by its name. Raises ConfigError."""
    kind = type(streamer).__name__
    for field in fields(streamer):
        value = getattr(streamer, field.name)
        problem = _problem(field.name, value)
        if problem:
            raise ConfigError(f"{kind}.{field.name}", value, problem)


def _problem(name: str, value: object) -> str:
    if name == "format":
        known = [str(member) for member in ExchangeFormat]
        return "" if value in known else f"use one of {', '.join(known)}"
    if name == "tasks":
        named = isinstance(value, list | tuple) and all(isinstance(task, str) for task in value)
        return "" if value is None or named else "a list of task names is needed"
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
        return ""
    return "seconds above 0 are needed"


def _instead_of(component: object) -> str:
    name = component.__name__ if isinstance(component, type) else type(component).__name__
    return next((hint for end, hint in INSTEAD.items() if name.endswith(end)), OTHERWISE)
