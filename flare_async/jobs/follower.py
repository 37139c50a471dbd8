"""What is done with a recipe's cohort around the recipe itself, as cross-site evaluation is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from flare_async.jobs.cohort import JobCohort

__all__ = ["Follower"]


class Follower(Protocol):
    """Sees a run's cohort before and after ``Recipe.coordinate``."""

    def begin(self, cohort: JobCohort) -> None:
        """Prepare, before the recipe's first task."""

    async def conclude(self, cohort: JobCohort) -> None:
        """Do what is to be done when the recipe has ended well; cancelled when the run is."""
