"""A whole load test: the server, its hosts, and what came of it."""

from __future__ import annotations

import asyncio
from typing import TextIO

from flare_async.net.groups import single_error
from flare_async.sim.loadtest.children import host_clients
from flare_async.sim.loadtest.figures import LoadFigures
from flare_async.sim.loadtest.host import HostFigures, serve_clients
from flare_async.sim.loadtest.server import listening
from flare_async.sim.loadtest.setting import Hosting, LoadSetting

__all__ = ["play_load"]


async def play_load(setting: LoadSetting, messages: TextIO) -> LoadFigures:
    """Run a load test to its end; ``messages`` is told where to join, if others have to.

    Waits as ``LoadServer.play`` does, and for the hosts' ends. Cancelling ends the hosts.

    Raises:
        LinkLost: a process of clients ended too early.
        StartFailed: too few clients came.
    """
    with single_error():
        async with asyncio.TaskGroup() as group:
            async with listening(setting) as server:
                hosts = [
                    group.create_task(hosted(setting, hosting), name=f"clients {hosting.first}")
                    for hosting in setting.hostings(server.address)
                ]
                if setting.away:
                    trusting = f"--certificates {setting.certificates} " * bool(
                        setting.certificates
                    )
                    messages.write(f"listening: join with {trusting}--join {server.address}\n")
                    messages.flush()
                figures = await server.play()
            figures.hosts = [await host for host in hosts]
    return figures


async def hosted(setting: LoadSetting, hosting: Hosting) -> HostFigures:
    """Host clients in a process of their own, or in this one if there is but one."""
    host = serve_clients if setting.alone else host_clients
    return await host(hosting)
