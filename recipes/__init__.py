"""Recipes: federated algorithms by name, one a file.

A recipe is two things: what the server does with a cohort (``coordinate``) and what a site does
with a task (``work``). Everything else, from transfers to checkpoints, is the runtime's. Names are
imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flare_async.recipes.fedavg import FedAvgRecipe

__all__ = ["FedAvgRecipe"]

_MODULES = {"FedAvgRecipe": "flare_async.recipes.fedavg"}


if not TYPE_CHECKING:  # a type checker shall report a name that does not exist

    def __getattr__(name: str) -> object:
        """Import a recipe on its first use (PEP 562).

        Raises:
            AttributeError: there is no recipe of that name.
        """
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_MODULES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
