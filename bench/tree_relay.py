"""The relay of ``bench.relay`` and ``bench.memory``: ``python -m bench.tree_relay SETTING``.

Command ``memory`` answers with this process's memory, and the peak since the last time. ``base``,
``trim`` and ``peak`` answer as those of ``bench.memory_server`` do.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, cast

import structlog

from bench.memory_server import after_trim, base_figures, peak_figures_kept
from bench.patience import PATIENT
from bench.peak import peak_figures
from bench.pipe import commands, say
from flare_async.jobs.loops import new_loop
from flare_async.net.clock import LoopClock
from flare_async.net.registry import Transports
from flare_async.net.rng import SystemRandom
from flare_async.roles.context import open_context
from flare_async.roles.relay import Relay, RelayMode

__all__ = ["Setting"]

FIGURES: Final[Mapping[str, Callable[[], Mapping[str, float]]]] = {
    "memory": peak_figures,
    "base": base_figures,
    "trim": after_trim,
    "peak": peak_figures_kept,
}


@dataclass(frozen=True, slots=True)
class Setting:
    """Below whom the relay is, and what it does."""

    parent: str
    mode: str
    cache_bytes: int


async def main() -> None:
    """Pass on as the command line says."""
    setting = Setting(**json.loads(sys.argv[1]))
    network = Transports(PATIENT)
    async with open_context(LoopClock(), SystemRandom(), network, PATIENT) as context:
        mode = cast("RelayMode", setting.mode)
        relay = Relay(context, "relay-1", mode=mode, cache_bytes=setting.cache_bytes)

        address = await context.tasks.start(relay.run, setting.parent, "tcp://127.0.0.1:0")
        say({"address": address})
        async for command in commands():
            say(FIGURES[command]())


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # answers alone
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
