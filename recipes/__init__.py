"""Recipes: federated algorithms by name, one a file.

A recipe is two things: what the server does with a cohort (``coordinate``) and what a site does
with a task (``work``). Everything else, from transfers to checkpoints, is the runtime's. Names are
imported when they are first used. ``TensorServerStreamer``, ``TensorClientStreamer`` and
``ExchangeFormat`` are for job files written for NVFlare.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flare_async.jobs.components import (
        ExchangeFormat,
        TensorClientStreamer,
        TensorServerStreamer,
    )
    from flare_async.recipes.fedavg import FedAvgRecipe
    from flare_async.recipes.tracking import add_experiment_tracking

__all__ = [
    "ExchangeFormat",
    "FedAvgRecipe",
    "TensorClientStreamer",
    "TensorServerStreamer",
    "add_experiment_tracking",
]

_MODULES = {
    "ExchangeFormat": "flare_async.jobs.components",
    "FedAvgRecipe": "flare_async.recipes.fedavg",
    "TensorClientStreamer": "flare_async.jobs.components",
    "TensorServerStreamer": "flare_async.jobs.components",
    "add_experiment_tracking": "flare_async.recipes.tracking",
}


if not TYPE_CHECKING:  # a type checker shall report a name that does not exist

    def __getattr__(name: str) -> object:
        """Import a name on its first use (PEP 562).

        Raises:
            AttributeError: there is no such name.
        """
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_MODULES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
