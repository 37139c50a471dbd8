"""How thousands of sites of one process connect: some at a time, with room for all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import anyio

from flare_async.limits import Limits
from flare_async.roles.server import Server

__all__ = ["CROWD", "caught_up", "roomy"]

CROWD: Final = 256  # sites that connect at a time
CROWD_SECONDS: Final = 1.0


async def caught_up(server: Server, least: int) -> None:
    """Wait until ``least`` sites have come, for a second at most: some may never come.

    All at once would take longer to say hello than a hello is waited for.
    """
    with anyio.move_on_after(CROWD_SECONDS):
        while len(server.sites) < least:
            await server.directory.changed()


def roomy(limits: Limits, sites: int) -> Limits:
    """Return limits under which so many sites may connect at once: here they are no crowd."""
    return replace(
        limits,
        handshakes=max(limits.handshakes, sites),
        sessions=max(limits.sessions, 2 * sites),
    )
