"""A server that plays one recipe: ``python -m bench.recipe_memory_server SETTING``.

It first plays the recipe with a small model in a simulation, so that all that is imported late is
there; then it says its address, and when its sites are there it plays the recipe with them and says
by how much it has grown at its peak.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import tempfile
import tracemalloc
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from bench.peak import peak_figures
from bench.pipe import say
from bench.recipe_memory_cases import CASES, Shape
from flare_async import SimEnv
from flare_async.jobs.cohort import CohortSetting, JobCohort
from flare_async.jobs.conducting import conducted
from flare_async.jobs.events import RunEvent
from flare_async.jobs.keep import keep_run
from flare_async.jobs.loops import calm_collector, new_loop
from flare_async.jobs.memory import return_memory
from flare_async.jobs.recipe import Recipe
from flare_async.jobs.run import Run
from flare_async.jobs.store import FolderStore
from flare_async.limits import MIB, Limits
from flare_async.net.clock import LoopClock
from flare_async.net.registry import Transports
from flare_async.net.rng import SeededRandom
from flare_async.roles.context import open_context
from flare_async.roles.server import Server

__all__ = ["LIMITS", "ROUNDS", "Setting"]

SMALL: Final = 65_536
# Staging and windows are bounded whatever the model is: here they are small beside it.
LIMITS: Final = replace(
    Limits(),
    staging_bytes=MIB,
    start_timeout=300.0,
    stall_timeout=300.0,
    heartbeat_interval=30.0,
)


def ignore(event: RunEvent) -> None:
    """Observe nothing."""
    del event


ROUNDS: Final = CohortSetting(seed=0, window=None, keep_until="received", observer=ignore)


@dataclass(frozen=True, slots=True)
class Setting:
    """Which recipe, with how many sites and how large a model, and a folder of a real disk."""

    case: str
    sites: int
    nbytes: int
    folder: str
    address: str = "tcp://127.0.0.1:0"

    def shape(self, nbytes: int) -> Shape:
        """Return the shape of a model of that size."""
        return Shape(nbytes, self.sites, Path(self.folder))

    def recipe(self, nbytes: int) -> Recipe:
        """Make the recipe with a model of that size."""
        return CASES[self.case].make(self.shape(nbytes))


def warm(setting: Setting) -> None:
    """Play the recipe once with a small model."""
    recipe = setting.recipe(min(SMALL, setting.nbytes))
    sites = setting.shape(0).names()
    env = SimEnv(clients=sites, num_threads=setting.sites, workspace_root=setting.folder)
    recipe.execute(env)


async def serve(setting: Setting) -> None:
    """Play the recipe with the sites that connect."""
    names = setting.shape(0).names()
    async with open_context(LoopClock(), SeededRandom(0), Transports(LIMITS), LIMITS) as context:
        server = Server(context)
        async with server.listen(setting.address) as address:
            say({"address": address})
            await server.wait_for(names, len(names))
            return_memory()
            tracemalloc.start()
            recipe = setting.recipe(setting.nbytes)  # which copies the arrays that it is given
            return_memory()
            base = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            resident = peak_figures()["rss"]
            await play(recipe, server, names, Path(setting.folder))
            traced, peak = tracemalloc.get_traced_memory()[1], peak_figures()["peak"]
            say({"traced": traced, "loaded": base, "resident": peak - resident + base})


async def play(recipe: Recipe, server: Server, names: list[str], folder: Path) -> None:
    """Run the recipe as an environment does, and keep what it leaves."""
    run = Run(run_id="measured", recipe_name=recipe.name, folder=folder)
    store = FolderStore(folder, durable=False)
    cohort = JobCohort(server, names, run, store, ROUNDS)
    cohort.filters = recipe.filters
    with calm_collector():
        await conducted(recipe, cohort)
        await keep_run(run, recipe, store, {})


def main() -> None:
    """Serve as the command line says."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),  # answers alone on standard output
    )
    setting = Setting(**json.loads(sys.argv[1]))
    with tempfile.TemporaryDirectory(prefix="warm-", dir=setting.folder) as folder:
        warm(replace(setting, folder=folder))
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve(setting))


if __name__ == "__main__":
    main()
