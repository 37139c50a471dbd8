"""A federated algorithm with a name: what coordinates it, and what its sites do."""

from __future__ import annotations

import asyncio
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import cached_property
from typing import TYPE_CHECKING

from flare_async.errors import ConfigError
from flare_async.jobs.client_config import checked_settings, limits_with
from flare_async.jobs.components import JobComponents
from flare_async.jobs.filters.chains import FilterChains
from flare_async.jobs.follower import Follower
from flare_async.jobs.loops import calm_collector, new_loop
from flare_async.jobs.memory_demand import ModelDemand
from flare_async.jobs.run import Run
from flare_async.jobs.trackers.feed import Tracker
from flare_async.jobs.work import Work, inside_worker
from flare_async.limits import Limits
from flare_async.transfer.filters.filter import Filter

if TYPE_CHECKING:
    from flare_async.jobs.cohort import JobCohort
    from flare_async.jobs.env import Env

__all__ = ["Recipe"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Recipe(ABC):
    """Base of all recipes: ``coordinate`` is the algorithm, ``work`` what the sites do.

    ``name`` (letters, digits, dots, dashes) names the run folder, ``min_clients`` is how many
    updates a round needs and how many sites a run needs to begin.
    """

    name: str
    min_clients: int
    num_rounds: int

    @property
    def torch_filename(self) -> str | None:
        """The PyTorch file that a run leaves beside its safetensors file, if any."""
        return None

    def files(self, run: Run) -> Mapping[str, Callable[[], bytes]]:
        """Return what a run leaves beside its safetensors files: names, and what makes each.

        They are called in threads, when the run has ended.
        """
        del run
        return {}

    @cached_property
    def job(self) -> JobComponents:
        """Where job files written for NVFlare put their tensor streamers; needed for nothing."""
        return JobComponents(self.name)

    @cached_property
    def trackers(self) -> list[Tracker]:
        """Where records of its runs go beside their folders: see ``add_experiment_tracking``."""
        return []

    @cached_property
    def followers(self) -> list[Follower]:
        """What is done around ``coordinate``: see ``add_cross_site_evaluation``."""
        return []

    @cached_property
    def client_config(self) -> dict[str, object]:
        """What ``add_client_config`` and ``add_server_config`` have set."""
        return {}

    def add_client_config(self, config: Mapping[str, object]) -> None:
        """Set waits and bounds by NVFlare's names; docs/limits.md says what each does here.

        Raises:
            ConfigError: a name is not known.
        """
        self.client_config.update(checked_settings("client_config", config))

    def add_server_config(self, config: Mapping[str, object]) -> None:
        """Set waits and bounds as ``add_client_config``; server and sites have the same limits.

        Raises:
            ConfigError: a name is not known.
        """
        self.client_config.update(checked_settings("server_config", config))

    @cached_property
    def filters(self) -> FilterChains:
        """What ``add_*_filter`` has added."""
        return FilterChains()

    def add_client_input_filter(
        self,
        filter: Filter,  # noqa: A002 - NVFlare's name for it
        tasks: Sequence[str] | None = None,
        clients: Sequence[str] | None = None,
    ) -> None:
        """Let a filter change the model that sites have received. Raises ConfigError."""
        self.filters.add("client_input", filter, tasks, clients)

    def add_client_output_filter(
        self,
        filter: Filter,  # noqa: A002
        tasks: Sequence[str] | None = None,
        clients: Sequence[str] | None = None,
    ) -> None:
        """Let a filter change updates before anything leaves a site. Raises ConfigError."""
        self.filters.add("client_output", filter, tasks, clients)

    def add_server_output_filter(
        self,
        filter: Filter,  # noqa: A002
        tasks: Sequence[str] | None = None,
    ) -> None:
        """Let a filter change the model before the server offers it. Raises ConfigError."""
        self.filters.add("server_output", filter, tasks)

    def add_server_input_filter(
        self,
        filter: Filter,  # noqa: A002
        tasks: Sequence[str] | None = None,
    ) -> None:
        """Let a filter change updates as they are staged at the server. Raises ConfigError."""
        self.filters.add("server_input", filter, tasks)

    def limits(self, given: Limits) -> Limits:
        """Return an environment's limits with what was added to the recipe.

        Raises:
            LimitsError: what was added contradicts itself or them.
        """
        return limits_with(given, self.client_config)

    def keep_additions_of(self, other: Recipe) -> None:
        """Take over what was added to a recipe after it was made, for a copy of it."""
        for name in ("client_config", "filters", "followers", "job", "trackers"):
            if name in vars(other):
                vars(self)[name] = vars(other)[name]

    def check_basics(self) -> None:
        """Check the three fields that every recipe has. Raises ConfigError."""
        if not is_name(self.name):
            raise ConfigError("name", self.name, "use 1 to 64 letters, digits, '.', '_' and '-'")
        positive("min_clients", self.min_clients)
        positive("num_rounds", self.num_rounds)

    def check_sites(self, sites: Sequence[str]) -> None:  # noqa: B027 - optional
        """Check what the recipe says of single sites; an environment asks before it starts.

        Raises:
            ConfigError: it names a site that does not exist.
        """

    def demand(self) -> ModelDemand | None:
        """Return what a round needs of the server's memory; None where it is not known.

        An environment plans with it, and refuses what does not fit, before anything is started.
        """
        return None

    @abstractmethod
    async def coordinate(self, cohort: JobCohort) -> None:
        """Run the algorithm with the sites of ``cohort``.

        Waits for rounds only; cancelled when the run is aborted.
        """

    @abstractmethod
    def work(self, site: str) -> Work:
        """Return what that site does with a task."""

    def start(self, env: Env) -> AbstractAsyncContextManager[Run]:
        """Start a run inside an ``async with`` block; see ``Env.start``."""
        return env.start(self)

    async def run(self, env: Env, *, check: bool = True) -> Run:
        """Run to the end inside an application's loop; cancelling aborts the run.

        Raises:
            ConfigError: recipe and environment do not fit.
            RunFailed: the run failed and ``check`` is true.
            RunAborted: somebody ended it and ``check`` is true.
        """
        async with self.start(env) as run:
            pass
        if check:
            run.check()
        return run

    def execute(self, env: Env, *, check: bool = True) -> Run:
        """Run to the end from a script or a notebook, on an event loop of its own.

        Where a loop is running already, as in a notebook, that loop is in a thread of its own and
        the caller blocks. Raises as ``run`` does.
        """
        if inside_worker():
            raise ConfigError(
                "execute",
                self.name,
                "a worker loads this file to find the training function and must not run it",
                'put the call under if __name__ == "__main__":',
            )
        if loop_is_running():
            return self._execute_aside(env, check=check)
        return self._execute_here(env, check=check)

    def _execute_here(self, env: Env, *, check: bool) -> Run:
        with calm_collector(), asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(self.run(env, check=check))

    def _execute_aside(self, env: Env, *, check: bool) -> Run:
        found: list[Run] = []
        failed: list[BaseException] = []

        def target() -> None:
            try:
                found.append(self._execute_here(env, check=check))
            except BaseException as exc:  # noqa: BLE001 - handed to the caller's thread
                failed.append(exc)

        thread = threading.Thread(target=target, name=f"run of {self.name}")
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return found[0]


def loop_is_running() -> bool:
    """Whether this thread runs an event loop already, as a notebook's does."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def positive(field: str, value: object) -> int:
    """Return ``value`` when it is an integer above 0. Raises ConfigError."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(field, value, "an integer of at least 1 is needed")
    return value


def is_name(value: object) -> bool:
    """Return whether ``value`` can be a recipe's name."""
    return isinstance(value, str) and NAME.fullmatch(value) is not None
