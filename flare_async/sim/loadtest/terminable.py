"""SIGTERM ends a load test as Ctrl-C does: what it holds is let go of, its folder too."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable
from contextlib import suppress
from typing import Final, TypeVar

__all__ = ["TERMINATED", "unless_terminated"]

TERMINATED: Final = 128 + signal.SIGTERM  # the exit status that a shell gives for it

T = TypeVar("T")


async def unless_terminated(work: Awaitable[T]) -> T | None:
    """Await ``work`` and return what it returns; None where SIGTERM has ended it.

    The signal cancels the waiting task, once, and so does whatever else cancels it. Bounded by the
    work and by what it does when it is cancelled.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    came = False

    def end() -> None:
        nonlocal came
        if task is not None and not came:  # once: a second signal must not end the cleaning up
            task.cancel()
        came = True

    # Not where the system has no such signals, or the loop is not the main thread's.
    with suppress(NotImplementedError, RuntimeError, ValueError):
        loop.add_signal_handler(signal.SIGTERM, end)
    try:
        return await work
    except asyncio.CancelledError:
        if not came:
            raise
        return None
    finally:
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.remove_signal_handler(signal.SIGTERM)
