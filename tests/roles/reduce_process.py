"""A relay that adds, in a process of its own: ``python reduce_process.py PARENT LISTEN``."""

from __future__ import annotations

import sys

import anyio

from flare_async.limits import Limits
from flare_async.net.clock import LoopClock
from flare_async.net.registry import Transports
from flare_async.net.rng import SystemRandom
from flare_async.roles.context import open_context
from flare_async.roles.relay import Relay


async def main(parent, listen):
    """Serve until the parent says goodbye; the address is printed once there is one."""
    limits = Limits()
    network = Transports(limits)
    async with open_context(LoopClock(), SystemRandom(), network, limits) as context:
        relay = Relay(context, "r1", mode="reduce")
        async with anyio.create_task_group() as tasks:
            print(await tasks.start(relay.run, parent, listen), flush=True)


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
