"""The end of a link: politely while that takes no longer than it may, then by force."""

from __future__ import annotations

import anyio

from flare_async.limits import Limits
from flare_async.net.link import Link

__all__ = ["close_link"]


async def close_link(link: Link, limits: Limits) -> None:
    """Send what is pending and end a link; what was said may still be read there.

    Bounded by ``shutdown_timeout``, then by force; cancelling waits no shorter.
    """
    if link.by_reference:  # nothing of it is ever pending
        link.abort()
        return
    with anyio.CancelScope(shield=True), anyio.move_on_after(limits.shutdown_timeout):
        await link.aclose()
    link.abort()
