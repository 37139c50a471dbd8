"""The timers of a simulated loop: a heap of plain tuples; comparing them runs no Python code."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import math
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flare_async.testing.loop import SimLoop

__all__ = ["SimTimer", "Timers"]

STALE = 100  # below this, cancelled timers are left to fall out of the heap


class SimTimer(asyncio.TimerHandle):
    """A call at a virtual second."""

    __slots__ = ()

    def __init__(  # what asyncio's own does, without asking for debugging: one a frame is made
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: SimLoop,
        context: Context | None,
    ) -> None:
        self._context = contextvars.copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None
        self._when = when
        self._scheduled = True


class Timers:
    """Timers by their second; those of the same second in the order in which they were made."""

    __slots__ = ("_heap", "_made", "_stale")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, SimTimer]] = []
        self._made = 0
        self._stale = 0

    def add(self, timer: SimTimer) -> None:
        """Take a timer in."""
        self._made += 1
        heapq.heappush(self._heap, (timer.when(), self._made, timer))

    def cancelled(self) -> None:
        """Take note that a timer was cancelled; when most were, they are thrown away."""
        self._stale += 1
        if self._stale > STALE and self._stale * 2 > len(self._heap):
            self._heap[:] = [entry for entry in self._heap if not entry[2].cancelled()]
            heapq.heapify(self._heap)
            self._stale = 0

    def next(self) -> float:
        """Return when the next timer is due; infinity if there is none."""
        heap = self._heap
        while heap:
            if not heap[0][2].cancelled():
                return heap[0][0]
            heapq.heappop(heap)
            self._stale -= 1
        return math.inf

    def due(self, now: float) -> list[SimTimer]:
        """Take out the timers that are due."""
        heap = self._heap
        if not heap or heap[0][0] > now:
            return []
        found = []
        while heap and heap[0][0] <= now:
            timer = heapq.heappop(heap)[2]
            timer._scheduled = False
            if timer.cancelled():
                self._stale -= 1
            else:
                found.append(timer)
        return found

    def live(self) -> list[SimTimer]:
        """Return those that were not cancelled, in no order."""
        return [timer for _, _, timer in self._heap if not timer.cancelled()]

    def __len__(self) -> int:
        return len(self._heap)

    def clear(self) -> None:
        """Forget all."""
        self._heap.clear()
        self._stale = 0
