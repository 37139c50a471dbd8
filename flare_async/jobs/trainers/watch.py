"""Notices a trainer that does nothing: no processor time, no byte, no line."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import anyio

from flare_async.jobs.trainers.supervisor import family

__all__ = ["idle_for"]

SHARE: Final = 0.001  # of a core: what polls for something that never comes uses less
SHORTEST, LONGEST = 0.05, 15.0  # seconds between two looks


async def idle_for(seconds: float, root: int, signs: Callable[[], int]) -> None:
    """Return when the processes below ``root`` have done nothing for so many seconds.

    Doing something is more than ``SHARE`` of a core, or another number of ``signs``. Waits for
    ever where the system has no ``/proc``.
    """
    loop, per_second = asyncio.get_running_loop(), ticks_per_second()
    began, used, told = loop.time(), -1.0, signs()
    while True:
        await anyio.sleep(min(max(seconds / 16, SHORTEST), LONGEST))
        ticks = await asyncio.to_thread(family, root)
        if not ticks:
            await anyio.sleep_forever()
        now, spent = loop.time(), sum(ticks.values()) / per_second
        if signs() != told or used < 0 or spent - used > SHARE * (now - began):
            began, used, told = now, spent, signs()
        elif now - began >= seconds:
            return


def ticks_per_second() -> float:
    """Return the unit of ``family``'s figures."""
    with suppress(AttributeError, OSError, ValueError):
        return float(os.sysconf("SC_CLK_TCK"))
    return 100.0
