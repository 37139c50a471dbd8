"""What a piece of code leaves behind on its event loop."""

from __future__ import annotations

import asyncio
import math
import os
from typing import Any, Final, TypeAlias

from flare_async.testing.loop import SimLoop
from flare_async.testing.story import describe_tasks
from flare_async.testing.timers import Due

__all__ = ["Leaks", "Unhandled"]

Unhandled: TypeAlias = list[list[dict[str, Any]]]

SETTLE_SECONDS: Final = 1.0  # virtual: what is on the way between simulated links has arrived
TURNS: Final = 10
TRIES: Final = 200
DESCRIPTORS: Final = "/proc/self/fd"


class Leaks:
    """Remembers what there was; ``expect_none`` looks for what has come and not gone."""

    def __init__(self, unhandled: Unhandled) -> None:
        self._loop = asyncio.get_running_loop()
        self._simulated = isinstance(self._loop, SimLoop)
        self._tasks = asyncio.all_tasks()
        self._old_timers = {id(timer) for timer in self._timers()}
        self._descriptors = self._count_descriptors()
        if isinstance(self._loop, SimLoop):
            unhandled.append(self._loop.unhandled)
        else:
            found: list[dict[str, Any]] = []
            unhandled.append(found)
            self._loop.set_exception_handler(lambda _, context: found.append(context))

    async def settle(self) -> None:
        """Let happen what is about to happen: a virtual second, or some turns of a real loop."""
        if self._simulated:
            await asyncio.sleep(SETTLE_SECONDS)
            return
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def expect_none(self) -> None:
        """Settle, then look.

        Raises:
            AssertionError: tasks, timers or descriptors are left; it names them.
        """
        await self.settle()
        left = asyncio.all_tasks() - self._tasks
        if left:
            raise AssertionError(f"{len(left)} tasks are left:\n{describe_tasks(left)}")
        timers = [timer for timer in self._timers() if id(timer) not in self._old_timers]
        if timers:
            raise AssertionError(f"{len(timers)} timers are left: {timers[:5]}")
        await self._expect_descriptors()

    async def _expect_descriptors(self) -> None:
        for _ in range(TRIES):  # the system may take a moment to report that a socket is closed
            if self._count_descriptors() <= self._descriptors:
                return
            await asyncio.sleep(0.001)
        more = self._count_descriptors() - self._descriptors
        raise AssertionError(f"{more} descriptors are left open")

    def _timers(self) -> list[asyncio.TimerHandle] | list[Due]:
        if isinstance(self._loop, SimLoop):
            return self._loop.timers.live()
        scheduled: list[asyncio.TimerHandle] = getattr(self._loop, "_scheduled", [])
        return [t for t in scheduled if not t.cancelled() and t.when() < math.inf]

    def _count_descriptors(self) -> int:
        """Return how many are open; 0 in simulation, and where the system does not tell."""
        if self._simulated or not os.path.isdir(DESCRIPTORS):  # noqa: PTH112 - no file is meant
            return 0
        return sum(is_ours(name) for name in os.listdir(DESCRIPTORS))  # noqa: PTH208


def is_ours(name: str) -> bool:
    """Return whether a descriptor is more than the spare one that uvloop keeps."""
    try:
        return os.readlink(f"{DESCRIPTORS}/{name}") != os.devnull  # noqa: PTH115
    except OSError:  # that of the listing itself
        return False
