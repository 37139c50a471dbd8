"""The clock port on an event loop: monotonic seconds of production, virtual ones of a SimLoop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from flare_async.ports import Timer

__all__ = ["LoopClock"]


class Now(Protocol):
    """Tells the time."""

    def __call__(self) -> float:
        """Return monotonic seconds."""


class LoopClock:
    """Tell the time of one event loop and call back on it; ``now`` are its monotonic seconds."""

    __slots__ = ("_loop", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Bind to ``loop``, by default the running one.

        Raises:
            RuntimeError: no loop was given and none is running.
        """
        self._loop = asyncio.get_running_loop() if loop is None else loop
        # uvloop tells the time of its last turn, in whole milliseconds of the same clock.
        ticks = type(self._loop).__module__.startswith("uvloop")
        # Asked for twenty times a client-round: a method around it would double what it costs.
        self.now: Now = time.monotonic if ticks else self._loop.time

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` on the loop at ``when``; the handle cancels it."""
        return self._loop.call_at(when, callback)
