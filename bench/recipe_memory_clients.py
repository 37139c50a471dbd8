"""All sites of ``bench.recipe_memory``, in one process: ``python -m bench.recipe_memory_clients``.

They work until their server says goodbye.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path

import anyio
import structlog

from bench.recipe_memory_server import LIMITS, ROUNDS, Setting
from flare_async.jobs.desk import DeskSetting
from flare_async.jobs.loops import new_loop
from flare_async.jobs.site import SiteInfo
from flare_async.jobs.site_store import SiteStore
from flare_async.jobs.site_worker import SiteWorker
from flare_async.jobs.store import FolderStore
from flare_async.net.clock import LoopClock
from flare_async.net.registry import Transports
from flare_async.net.rng import SeededRandom
from flare_async.roles.client import Client
from flare_async.roles.context import open_context
from flare_async.sim.crew import Crew

__all__ = ["main"]


async def serve(setting: Setting) -> None:
    """Work for the server; all sites at a time, so that nobody waits for another's answer."""
    recipe, names = setting.recipe(setting.nbytes), setting.shape(0).names()
    works = {name: recipe.work(name) for name in names}
    store = FolderStore(Path(setting.folder), durable=False)
    async with (
        Crew(works, "inline", len(names), LIMITS) as crew,
        open_context(LoopClock(), SeededRandom(0), Transports(LIMITS), LIMITS) as context,
    ):
        async with anyio.create_task_group() as group:
            for index, name in enumerate(names):
                info = SiteInfo(name=name, index=index, num_sites=len(names))
                worker, gate = (
                    SiteWorker(works[name], info, crew.of(name).spawner),
                    crew.of(name).gate,
                )
                site_store = SiteStore(store, name)
                desk = recipe.desk(DeskSetting(name, store.folder / name, site_store, gate, ROUNDS))
                client = Client(context, name, worker, gate, desk=desk)
                group.start_soon(client.run, setting.address)
        await crew.end_scripts()


def main() -> None:
    """Work as the command line says."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve(Setting(**json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
