"""What decorates recipes, so that a wrong call is told whole: every argument, every name."""

from __future__ import annotations

from typing import Final, TypeVar

from flare_async.arguments import configured
from flare_async.jobs.site import Site
from flare_async.model import FLModel

__all__ = ["recipe_arguments"]

RecipeT = TypeVar("RecipeT")


def untrained(model: FLModel, site: Site) -> FLModel:
    """Return the model as it came."""
    del site
    return model


# What other arguments are tried with, in place of one that cannot be used.
HARMLESS: Final = {
    "min_clients": 1,
    "model": [0.0],
    "train": untrained,
    "train_script": __file__,
    "eval_script": __file__,
    "name": "recipe",
    "sites": ("site-1",),
    "stats_output_path": "statistics.json",
}

# Arguments of NVFlare's recipes that there are none of.
ELSEWHERE: Final = {
    "model_persistor": "give model= and initial_ckpt=; the run's folder keeps the models",
    "model_locator": "read run.model and run.best_model; the run's folder has their files",
    "executor": "give train= or train_script=",
    "aggregator": "FedAvgRecipe has it: this recipe's arithmetic is its own",
    "memory_gc_rounds": "it is called client_memory_gc_rounds",
    "persistor_id": "give model= and initial_ckpt=",
}


def recipe_arguments(cls: type[RecipeT]) -> type[RecipeT]:
    """Let a dataclass of a recipe tell all that is wrong with a call, and where the call stands.

    It is written above ``@dataclass``; the checks are those of ``__post_init__``.
    """
    defaults = {name for name in ("min_clients",) if hasattr(cls, name)}
    harmless = {name: value for name, value in HARMLESS.items() if name not in defaults}
    return configured(elsewhere=ELSEWHERE, **harmless)(cls)
