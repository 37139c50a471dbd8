"""Which event loop a process of ours runs; the only place that chooses."""

from __future__ import annotations

import asyncio
import sys

__all__ = ["new_loop"]


def new_loop() -> asyncio.AbstractEventLoop:
    """Return a new uvloop loop, or asyncio's own where uvloop does not exist (Windows)."""
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()
