"""Let simulated seconds pass, on the injected clock."""

from __future__ import annotations

import asyncio

from flare_async.ports import Clock

__all__ = ["pass_seconds"]


async def pass_seconds(clock: Clock, seconds: float) -> None:
    """Return ``seconds`` later by ``clock``; cancelling leaves no timer."""
    over = asyncio.get_running_loop().create_future()

    def finish() -> None:
        if not over.done():  # the clock may strike in the turn in which the waiter is cancelled
            over.set_result(None)

    timer = clock.call_at(clock.now() + seconds, finish)
    try:
        await over
    finally:
        timer.cancel()
