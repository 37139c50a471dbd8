"""Those who wait for a state to change: bare wake-ups, the state stays where it is."""

from __future__ import annotations

import asyncio

__all__ = ["Waiters"]


class Waiters:
    """Any number of tasks that look again at each ``wake``."""

    __slots__ = ("_futures",)

    def __init__(self) -> None:
        self._futures: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        """Wait for the next ``wake``, bounded by the caller; cancelling leaves nothing."""
        future = asyncio.get_running_loop().create_future()
        self._futures.append(future)
        try:
            await future
        finally:
            self._futures.remove(future)

    def wake(self) -> None:
        """Let everybody who waits look again."""
        for future in self._futures:
            if not future.done():
                future.set_result(None)
