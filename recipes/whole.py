"""What recipes whose sites answer with no model cannot use of the arguments that they inherit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flare_async.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from flare_async.recipes.model_recipe import ModelRecipe

__all__ = ["refuse_partial", "require_sklearn"]


def refuse_partial(recipe: ModelRecipe) -> None:
    """Refuse arguments about a model and its parts.

    Raises:
        ConfigError: one of them was given; the error names it.
    """
    if recipe.model is not None:
        raise ConfigError("model", type(recipe.model).__name__, "this recipe makes its own")
    if recipe.params_transfer_type != "FULL":
        problem = "sites answer with no weights that could differ"
        raise ConfigError("params_transfer_type", recipe.params_transfer_type, problem)
    for name in ("exclude_vars", "aggregation_weights"):
        if getattr(recipe, name):
            raise ConfigError(name, getattr(recipe, name), "has no meaning for this recipe")


def require_sklearn() -> None:
    """Raise MissingExtra where scikit-learn is not installed."""
    try:
        import sklearn
    except ImportError as exc:
        raise MissingExtra("scikit-learn", "sklearn") from exc
    del sklearn
