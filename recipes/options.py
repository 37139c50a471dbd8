"""Arguments that a recipe has from its base class and has no use for."""

from __future__ import annotations

import dataclasses
from typing import Final

from flare_async.errors import ConfigError
from flare_async.recipes.model_recipe import ModelRecipe

__all__ = ["OF_SUMS", "refuse_options"]

OF_SUMS: Final = (
    *("clients_per_round", "over_select", "accumulator", "exact", "scale_bits", "staging"),
    "max_norm",
)


def refuse_options(recipe: ModelRecipe, names: tuple[str, ...], problem: str) -> None:
    """Refuse arguments that would have no effect.

    Raises:
        ConfigError: one of them has another value than its default.
    """
    for field in dataclasses.fields(recipe):
        if field.name in names and getattr(recipe, field.name) != field.default:
            raise ConfigError(field.name, getattr(recipe, field.name), problem, "leave it out")
