"""A recipe's ``coordinate``, run so that what goes wrong in it names the user's line."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from flare_async.errors import ConfigError, FlareError
from flare_async.jobs.places import place_of, place_of_error

if TYPE_CHECKING:
    from flare_async.jobs.cohort import JobCohort
    from flare_async.jobs.recipe import Recipe

__all__ = ["cause_of", "conducted", "note"]

HINT = "enter rounds with 'async with' and 'await' what is async"


async def conducted(recipe: Recipe, cohort: JobCohort) -> None:
    """Run ``recipe.coordinate``; what it raises carries a note with the user's line.

    Waits for the recipe; cancelling cancels it.

    Raises:
        ConfigError: it is no coroutine, it ended without asking any site, or it never awaited
            something of the cohort's.
        Exception: whatever it raises.
    """
    try:
        await _run(recipe, cohort)
    except Exception as exc:
        note(exc, place_of_error(exc) or place_of(recipe.coordinate))
        for call in cohort.unawaited.closed():
            exc.add_note(f"{call} was never awaited")
        raise


async def _run(recipe: Recipe, cohort: JobCohort) -> None:
    before = cohort.asked
    for follower in recipe.followers:
        follower.begin(cohort)
    running: object = recipe.coordinate(cohort)
    if not inspect.isawaitable(running):
        kind = type(running).__name__
        raise ConfigError("coordinate", recipe.name, f"returned {kind}", "write 'async def'")
    await running
    if cohort.asked == before:
        raise ConfigError("coordinate", recipe.name, "ended without asking any site", HINT)
    forgotten = cohort.unawaited.closed()
    if forgotten:
        problem = f"never awaited: {', '.join(forgotten)}"
        raise ConfigError("coordinate", recipe.name, problem, "write 'await' before it")
    for follower in recipe.followers:
        await follower.conclude(cohort)


def note(error: BaseException, place: str | None) -> None:
    """Add a place to an error, once."""
    if place is not None and not getattr(error, "__notes__", None):
        error.add_note(f"at {place}")


def cause_of(error: BaseException) -> str:
    """Return what a run failed with, in one line, with the user's line if it is known."""
    text = str(error) if isinstance(error, FlareError) else repr(error)
    return " ".join([text, *(f"({said})" for said in getattr(error, "__notes__", ()))])
