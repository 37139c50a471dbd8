"""Notices a trainer that does nothing: no processor time, no byte, no line."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import anyio

from flare_async.jobs.trainers.supervisor import family

__all__ = ["Idleness", "idle_for"]

SHARE: Final = 0.001  # of a core: what polls for something that never comes uses less
SHORTEST, LONGEST = 0.05, 15.0  # seconds between two looks
LATE: Final = 1.0  # seconds that a look may take on a busy machine


class Idleness:
    """Says whether processes have done nothing for ``seconds``, from what is seen of them.

    Doing something is more than ``SHARE`` of a core, or another number of ``signs``. When nobody
    has looked for long, because this process was stopped, the time begins anew.
    """

    __slots__ = ("_began", "_looked", "_seconds", "_told", "_used")

    def __init__(self, seconds: float, now: float, signs: int) -> None:
        self._seconds = seconds
        self._began = self._looked = now
        self._used = -1.0
        self._told = signs

    @property
    def interval(self) -> float:
        """Seconds between two looks."""
        return min(max(self._seconds / 16, SHORTEST), LONGEST)

    def is_idle(self, now: float, used: float, signs: int) -> bool:
        """Take note of the processor time used by now; less than before: a process has ended."""
        late = now - self._looked > 2 * self.interval + LATE
        self._looked = now
        spent = used - self._used
        if late or signs != self._told or self._used < 0 or not 0 <= spent <= self._share(now):
            self._began, self._used, self._told = now, used, signs
        return now - self._began >= self._seconds

    def _share(self, now: float) -> float:
        return SHARE * (now - self._began)


async def idle_for(seconds: float, root: int, signs: Callable[[], int]) -> None:
    """Return when the processes below ``root`` have done nothing for so many seconds.

    Waits for ever where the system has no ``/proc``.
    """
    loop, per_second = asyncio.get_running_loop(), ticks_per_second()
    idleness = Idleness(seconds, loop.time(), signs())
    while True:
        await anyio.sleep(idleness.interval)
        ticks = await asyncio.to_thread(family, root)
        if not ticks:
            await anyio.sleep_forever()
        if idleness.is_idle(loop.time(), sum(ticks.values()) / per_second, signs()):
            return


def ticks_per_second() -> float:
    """Return the unit of ``family``'s figures."""
    with suppress(AttributeError, OSError, ValueError):
        return float(os.sysconf("SC_CLK_TCK"))
    return 100.0
