"""One client of ``bench.memory``: ``python -m bench.memory_client SETTING``.

It works for its server until that says goodbye. Commands ``base``, ``trim`` and ``peak`` answer
with this process's memory, as the server's do.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass

import structlog

from bench.memory_model import AddsOne
from bench.memory_server import LIMITS, after_trim, base_figures, peak_figures_kept
from bench.pipe import commands, say
from flare_async.jobs.loops import new_loop
from flare_async.net.clock import LoopClock
from flare_async.net.registry import Transports
from flare_async.net.rng import SystemRandom
from flare_async.roles.client import Client
from flare_async.roles.context import open_context

__all__ = ["Setting"]


@dataclass(frozen=True, slots=True)
class Setting:
    """Whom to work for, and under which name."""

    address: str
    name: str


async def serve(setting: Setting) -> None:
    """Work as the command line says."""
    network = Transports(LIMITS)
    async with open_context(LoopClock(), SystemRandom(), network, LIMITS) as context:
        client = Client(context, setting.name, AddsOne())
        context.tasks.start_soon(client.run, setting.address)
        async for command in commands():
            match command:
                case "base":
                    say(base_figures())
                case "trim":
                    say(after_trim())
                case _:
                    say(peak_figures_kept())


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # answers alone
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve(Setting(**json.loads(sys.argv[1]))))
