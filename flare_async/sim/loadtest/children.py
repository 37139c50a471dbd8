"""The processes that host clients, as the server's process sees them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import suppress
from typing import Final

import anyio

from flare_async.errors import LinkLost
from flare_async.jobs.spawners.handle import described_status
from flare_async.sim.loadtest.host import HostFigures
from flare_async.sim.loadtest.setting import Hosting

__all__ = ["host_clients"]

MODULE: Final = "flare_async.sim.loadtest.host"
ENDING: Final = 10.0  # seconds between being asked to end and being killed


async def host_clients(hosting: Hosting) -> HostFigures:
    """Run a process of clients to its end and return its figures.

    Waits until the server has said goodbye to its clients. Cancelling terminates it, and kills it
    after ``ENDING`` seconds.

    Raises:
        LinkLost: it ended otherwise; what it printed has gone to standard error.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", MODULE, hosting.encoded(), str(os.getpid())),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        printed, _ = await process.communicate()
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            await end(process)
        raise
    if process.returncode:
        peer = f"clients {hosting.first} to {hosting.first + hosting.count - 1}"
        raise LinkLost(peer, f"their process {described_status(process.returncode)}")
    return HostFigures(**json.loads(printed.splitlines()[-1]))


async def end(process: asyncio.subprocess.Process) -> None:
    """Terminate a process; kill it after ``ENDING`` seconds."""
    with suppress(ProcessLookupError):
        process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(ENDING):
                await process.wait()
                return
        process.kill()
        await process.wait()
