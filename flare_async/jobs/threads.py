"""Work that would block the loop, in a thread that is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import anyio

__all__ = ["run_to_end"]

ResultT = TypeVar("ResultT")


async def run_to_end(call: Callable[[], ResultT]) -> ResultT:
    """Run ``call`` in a worker thread and return what it returns.

    Waits for its end, however long it takes; a cancellation takes effect afterwards, because the
    thread would go on anyway and meet what its caller does next.
    """
    found: list[ResultT] = []
    with anyio.CancelScope(shield=True):
        found.append(await asyncio.to_thread(call))
    return found[0]
