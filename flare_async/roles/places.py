"""Places for work at a time, of which slow work gives its own up and goes on without one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from flare_async.ports import Clock

__all__ = ["Places"]


class Places:
    """``count`` places; who has had one for ``seconds`` leaves it to the next in the queue.

    So few are at work at a time where all are quick, and nobody waits long for those who are not.
    """

    __slots__ = ("_clock", "_free", "_seconds")

    def __init__(self, count: int, seconds: float, clock: Clock) -> None:
        self._free = asyncio.Semaphore(count)
        self._seconds = seconds
        self._clock = clock

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Have a place while the block lasts; waits at most ``seconds`` for each one before it."""
        await self._free.acquire()
        held = [True]

        def leave() -> None:
            if held:
                held.clear()
                self._free.release()

        timer = self._clock.call_at(self._clock.now() + self._seconds, leave)
        try:
            yield
        finally:
            timer.cancel()
            leave()
