"""What a recipe's reducers have held: the counters of their staging areas."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from flare_async.jobs.recipe import Recipe
from flare_async.transfer.mean import WeightedMean
from flare_async.transfer.reducer import Reducer

__all__ = ["Staged", "watched"]


@dataclass(slots=True)
class Staged:
    """The most bytes that one round's updates had in memory, and all that went to files."""

    peak: int = 0
    spilled: int = 0

    @contextmanager
    def during(self, made: AbstractContextManager[Reducer]) -> Iterator[Reducer]:
        """Yield a reducer and count, in the end, what it has held."""
        with made as reducer:
            yield reducer
            if isinstance(reducer, WeightedMean):
                statistics = reducer.statistics
                self.peak = max(self.peak, statistics.staged_bytes)
                self.spilled += statistics.spilled_bytes


def watched(recipe: Recipe, staged: Staged) -> Recipe:
    """Return a copy of the recipe whose reducers are counted, if it has any."""
    make: Callable[..., AbstractContextManager[Reducer]] | None = getattr(recipe, "reducer", None)
    if make is None:
        return recipe
    made = copy.copy(recipe)
    vars(made).update(reducer=lambda *given: staged.during(make(*given)))
    return made
