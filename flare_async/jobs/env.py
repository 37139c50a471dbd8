"""Where a recipe runs: the contract of all environments."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol

from flare_async.jobs.run import Run

if TYPE_CHECKING:
    from flare_async.jobs.recipe import Recipe

__all__ = ["Env"]


class Env(Protocol):
    """Runs recipes; ``SimEnv`` is the one inside this process."""

    def start(self, recipe: Recipe) -> AbstractAsyncContextManager[Run]:
        """Start a run that is owned by the block; leaving the block waits for its end.

        The run's own failure never leaves the block: ``Run.check`` raises it. Cancelling the
        block aborts the run.

        Raises:
            ConfigError: recipe and environment do not fit; nothing was started.
        """
