"""The relay of ``bench.relay``: ``python -m bench.tree_relay SETTING``.

Command ``memory`` answers with this process's memory, and the peak since the last time.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from typing import cast

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
        async for _ in commands():
            say(peak_figures())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
