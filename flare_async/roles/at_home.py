"""A site's tasks for itself: while it aggregates, it is one of its own sites, over memory.

Its update then goes by reference, and nothing of it to the server and back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from flare_async.errors import FlareError
from flare_async.net.groups import single_error
from flare_async.net.session import Session
from flare_async.roles.entrance import opened
from flare_async.roles.messages import TASK_TOPIC
from flare_async.roles.peer_server import PeerServer
from flare_async.wire.frames import ResetCode

__all__ = ["at_home"]


@asynccontextmanager
async def at_home(peers: PeerServer) -> AsyncIterator[None]:
    """Let a site be one of those that its rounds reach, while the block lasts.

    Entering waits for a handshake in memory. Leaving ends what the site still does for itself.

    Raises:
        LinkError: there is no memory link, which nobody but this process can be the reason of.
    """
    context, name = peers.context, peers.name
    address = f"memory://{name}-{context.random.token(8).hex()}"
    with single_error():
        async with (
            peers.listen(address),
            opened(context, context.endpoint(name, "client"), address) as session,
            anyio.create_task_group() as tasks,
        ):
            peers.shelf.attach(session)
            tasks.start_soon(_serve, peers, session)
            while name not in peers.sites:
                await peers.directory.changed()
            yield
            tasks.cancel_scope.cancel()


async def _serve(peers: PeerServer, session: Session) -> None:
    try:
        async for channel in session:
            if channel.topic == TASK_TOPIC:
                peers.take(channel)
            else:
                channel.reset(ResetCode.REFUSED, "a site takes tasks only")
    except FlareError:
        return  # the link is this process's own: the block is about to end
