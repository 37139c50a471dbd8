"""The client of ``bench.trainer``: as ``bench.memory_client``, with its script in a process."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import structlog

from bench.memory_server import LIMITS, base_figures, peak_figures_kept
from bench.pipe import commands, say
from flare_async.jobs.loops import new_loop
from flare_async.jobs.scripts.script import Script
from flare_async.jobs.site import SiteInfo
from flare_async.jobs.site_worker import SiteWorker
from flare_async.jobs.trainers.spawner import TrainerProcesses
from flare_async.jobs.work import Work
from flare_async.model import ParamsType
from flare_async.net.clock import LoopClock
from flare_async.net.registry import Transports
from flare_async.net.rng import SystemRandom
from flare_async.roles.client import Client
from flare_async.roles.context import open_context

__all__ = ["Setting"]

SCRIPT = Path(__file__).with_name("trainer_script.py")


@dataclass(frozen=True, slots=True)
class Setting:
    """Whom to work for, how updates travel, and where the script writes its figures."""

    address: str
    transfer: str
    figures: str


async def serve(setting: Setting) -> None:
    """Work as the command line says."""
    script = await asyncio.to_thread(Script, path=SCRIPT, args=setting.figures, external=True)
    work = Work(script=script, transfer=ParamsType(setting.transfer))
    network = Transports(LIMITS)
    async with (
        TrainerProcesses(1, limits=LIMITS) as spawner,
        open_context(LoopClock(), SystemRandom(), network, LIMITS) as context,
    ):
        client = Client(context, "site-0", SiteWorker(work, SiteInfo(name="site-0"), spawner))
        context.tasks.start_soon(client.run, setting.address)
        async for command in commands():
            say(base_figures() if command == "base" else peak_figures_kept())


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # answers alone
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve(Setting(**json.loads(sys.argv[1]))))
