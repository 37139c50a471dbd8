"""What is done with a recipe's cohort around the recipe itself, as cross-site evaluation is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from flare_async.jobs.cohort import JobCohort

__all__ = ["Follower"]


class Follower(Protocol):
    """Sees a run's cohort before and after ``Recipe.coordinate``."""

    def check_sites(self, sites: Sequence[str]) -> None:
        """Refuse what does not fit the sites of a run, before it starts. Raises ConfigError."""

    def begin(self, cohort: JobCohort) -> None:
        """Prepare, before the recipe's first task."""

    def addition(self) -> tuple[str, Mapping[str, object]]:
        """Return the function of ``flare_async.recipes`` that adds it, and its arguments."""

    async def conclude(self, cohort: JobCohort) -> None:
        """Do what is to be done when the recipe has ended well; cancelled when the run is."""
