"""Whether a recipe and an environment fit: asked before anything starts, answered in one piece."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from flare_async.errors import ConfigError, ConfigErrors
from flare_async.jobs.added_files import check_clients
from flare_async.jobs.places import place_of_caller
from flare_async.limits import Limits

if TYPE_CHECKING:
    from flare_async.jobs.recipe import Recipe

__all__ = ["check_fit"]


def check_fit(recipe: Recipe, sites: Sequence[str], limits: Limits) -> None:
    """Check what a recipe says of sites and waits against those of an environment.

    Raises:
        ConfigError: they do not fit; several problems are told at once.
    """
    checks: list[Callable[[], object]] = [
        partial(check_count, recipe, sites),
        partial(recipe.check_sites, sites),
        partial(recipe.filters.check_sites, sites),
        partial(check_clients, recipe.client_files, sites),
        *(partial(follower.check_sites, sites) for follower in recipe.followers),
        partial(recipe.limits, limits),
    ]
    found: list[ConfigError] = []
    for check in checks:
        try:
            check()
        except ConfigErrors as exc:
            found += exc.problems
        except ConfigError as exc:
            found.append(exc)
    if len(found) == 1:
        raise found[0]
    if found:
        raise ConfigErrors(type(recipe).__name__, found, place_of_caller())


def check_count(recipe: Recipe, sites: Sequence[str]) -> None:
    """Refuse a quorum that cannot be reached. Raises ConfigError."""
    if recipe.min_clients > len(sites):
        hint = f"lower it, or simulate at least {recipe.min_clients} clients"
        problem = f"exceeds the {len(sites)} clients of the environment"
        raise ConfigError("min_clients", recipe.min_clients, problem, hint)
