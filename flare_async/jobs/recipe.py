"""A federated algorithm with a name: what coordinates it, and what its sites do."""

from __future__ import annotations

import asyncio
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from flare_async.errors import ConfigError
from flare_async.jobs.additions import Additions
from flare_async.jobs.loops import calm_collector, new_loop
from flare_async.jobs.memory_demand import ModelDemand
from flare_async.jobs.run import Run
from flare_async.jobs.work import Work, inside_worker

if TYPE_CHECKING:
    from flare_async.jobs.cohort import JobCohort
    from flare_async.jobs.desk import DeskSetting
    from flare_async.jobs.env import Env
    from flare_async.roles.site_work import Desk

__all__ = ["Content", "Recipe"]

Content = bytes | Sequence[bytes | memoryview]  # of a file, whole or in pieces

LOADED = "a worker loads this file to find the training function and must not run it"
GUARD = 'put the call under if __name__ == "__main__":'
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Recipe(Additions, ABC):
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

    def files(self, run: Run) -> Mapping[str, Callable[[], Content]]:
        """Return what a run leaves beside its safetensors files: names, and what makes each.

        They are called in threads, when the run has ended.
        """
        del run
        return {}

    def export(self, job_dir: str | Path) -> Path:
        """Write the job folder ``job_dir/<name>`` and return it; ``Recipe.load`` reads it.

        It has the model, the recipe's arguments and the files of the user's code.

        Raises:
            ConfigError: something cannot be written down, such as a lambda; the error names it.
            WorkspaceError: the folder exists, or cannot be written.
        """
        from flare_async.jobs.folders import export_job  # few runs need it

        if inside_worker():
            raise ConfigError("export", self.name, LOADED, GUARD)
        return export_job(self, job_dir)

    @staticmethod
    def load(folder: str | Path) -> Recipe:
        """Return the recipe of a job folder; its code runs, as that of a script does.

        Raises:
            ConfigError: it is no job folder, or something in it cannot be used.
            WorkspaceError: a file cannot be read.
        """
        from flare_async.jobs.folders import load_job  # few runs need it

        return load_job(folder)

    def check_basics(self) -> None:
        """Check the three fields that every recipe has. Raises ConfigError."""
        if not is_name(self.name):
            raise ConfigError("name", self.name, "use 1 to 64 letters, digits, '.', '_' and '-'")
        positive("min_clients", self.min_clients)
        positive("num_rounds", self.num_rounds)

    def check_sites(self, sites: Sequence[str]) -> None:
        """Check what the recipe says of single sites; an environment asks before it starts.

        Raises:
            ConfigError: it names a site that does not exist.
        """

    def demand(self) -> ModelDemand | None:
        """Return what a round needs of the server's memory; None where it is not known.

        An environment plans with it, and refuses what does not fit, before anything is started.
        """
        return None

    def desk(self, setting: DeskSetting) -> Desk | None:
        """Return what a site does with its peers, where sites work with each other."""
        del setting
        return None

    def collect(self, run: Run, sites: Sequence[str]) -> None:
        """Take into a run what its sites have left in their folders; called in a thread."""

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
            raise ConfigError("execute", self.name, LOADED, GUARD)
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
