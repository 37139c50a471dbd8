"""Checks of the arguments that recipes with one global model share."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flare_async.errors import ConfigError
from flare_async.jobs.memory import checked_gc_rounds
from flare_async.jobs.memory_demand import STAGINGS
from flare_async.jobs.recipe import positive
from flare_async.jobs.site_options import check_weights

if TYPE_CHECKING:
    from flare_async.recipes.model_arguments import ModelArguments

__all__ = ["check_excluded", "check_memory", "check_rounds", "is_finite"]


def check_rounds(recipe: ModelArguments) -> None:
    """Check who is asked in a round, for how long, and what each weighs. Raises ConfigError."""
    check_weights("aggregation_weights", recipe.aggregation_weights)
    size, least = recipe.clients_per_round, recipe.min_clients
    if size is not None and positive("clients_per_round", size) < least:
        problem = f"is below min_clients={least}: no round could reach its quorum"
        raise ConfigError("clients_per_round", size, problem)
    if not is_finite(recipe.over_select) or recipe.over_select < 1:
        raise ConfigError("over_select", recipe.over_select, "a number of at least 1 is needed")
    timeout = recipe.round_timeout
    if timeout is not None and (not is_finite(timeout) or timeout <= 0):
        raise ConfigError("round_timeout", timeout, "seconds above 0 are needed")


def check_memory(recipe: ModelArguments) -> None:
    """Check where updates wait, what they may be, and when memory goes back. Raises ConfigError."""
    if recipe.staging not in STAGINGS:
        raise ConfigError("staging", recipe.staging, f"use one of {', '.join(STAGINGS)}")
    most = recipe.max_norm
    if most is not None and (not is_finite(most) or most <= 0):
        raise ConfigError("max_norm", most, "a number above 0 is needed")
    for name in ("server_memory_gc_rounds", "client_memory_gc_rounds"):
        checked_gc_rounds(name, getattr(recipe, name))


def check_excluded(pattern: str | None, names: Iterable[str]) -> None:
    """Refuse what is no expression, and one that leaves nothing to be averaged.

    Raises:
        ConfigError: with the reason.
    """
    if pattern is None:
        return
    try:
        expression = re.compile(pattern)
    except (re.error, TypeError) as exc:
        raise ConfigError("exclude_vars", pattern, f"no regular expression: {exc}") from exc
    if all(expression.search(name) for name in names):
        raise ConfigError("exclude_vars", pattern, "finds every tensor: none would be averaged")


def is_finite(value: object) -> bool:
    """Return whether ``value`` is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)
