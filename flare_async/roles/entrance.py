"""A session with a server that may not be there yet, and whose links may be lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import structlog

from flare_async.errors import HandshakeRefused, LinkError
from flare_async.net.backoff import Backoff
from flare_async.net.endpoint import Endpoint
from flare_async.net.link import Link
from flare_async.net.redial import Redial
from flare_async.net.session import Session
from flare_async.roles.context import Context
from flare_async.wire.session import Side

__all__ = ["opened"]

log = structlog.get_logger()


@asynccontextmanager
async def opened(context: Context, endpoint: Endpoint, address: str) -> AsyncIterator[Session]:
    """Connect to ``address`` and yield the session; leaving says goodbye.

    What fails is tried again, with jitter, for ``start_timeout``; what was refused is not. Within
    the block the session gets a new link whenever it loses one.

    Raises:
        LinkError: no session in time, or none is wanted; in the block: lost for good.
    """
    session = await _enter(context, endpoint, address)
    try:
        yield session
    finally:
        await session.__aexit__(None, None, None)


async def _enter(context: Context, endpoint: Endpoint, address: str) -> Session:
    async def dial() -> Link:
        return await context.network.connect(address)

    backoff = Backoff(context.random, "dial", context.limits.retry_cap)
    end = context.clock.now() + context.limits.start_timeout
    while True:
        try:
            session = Session(
                await dial(), Side.CONNECTOR, endpoint, lifeline=Redial(dial, endpoint)
            )
            return await session.__aenter__()
        except HandshakeRefused:
            raise
        except LinkError as exc:
            pause = backoff.pause()
            if context.clock.now() + pause >= end:
                raise
            log.info("dial_failed", site=endpoint.name, tries=backoff.tries, error=str(exc))
        await anyio.sleep(pause)
