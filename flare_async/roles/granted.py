"""The server's block in which the sites of a job may reach each other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio

from flare_async.net.groups import single_error
from flare_async.roles.grants import Granter, check_fits
from flare_async.roles.peer_messages import Grant
from flare_async.roles.server import Server

__all__ = ["granted"]


@asynccontextmanager
async def granted(server: Server, job: str, sites: Sequence[str]) -> AsyncIterator[None]:
    """Let ``sites`` reach each other for ``job`` while the block lasts; everything else is refused.

    Whoever comes back, site or relay, has the grant before anything that is opened with it.
    Leaving the block takes it back from everybody.

    Raises:
        ConfigError: there are more sites than one message can name.
    """
    grant = Grant(job, tuple(sites))
    check_fits(grant.sites, server.context.limits)
    granter = Granter(server.directory, grant, to_sites=True)
    server.peers.grants.add(grant)
    try:
        with single_error():
            async with anyio.create_task_group() as tasks:
                granter.tell()
                tasks.start_soon(granter.run)
                yield
                tasks.cancel_scope.cancel()
    finally:
        server.peers.grants.remove(grant)
        granter.end()
