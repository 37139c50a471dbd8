"""The timers of a simulated loop: what is soon in a heap, what is later in lists by its second.

A federation of ten thousand sites has a hundred thousand timers, most of them heartbeats a minute
away. A heap of all would be large and cold, and each frame would be sorted into it; so only those
of the next ``1 / SPANS`` seconds are in the heap, which is small. It holds plain tuples, because
comparing them runs no Python code. The order is the same as that of one heap.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Callable
from contextvars import Context
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections import deque

    from flare_async.testing.loop import SimLoop

__all__ = ["SimHandle", "SimTimer", "Timers"]

STALE: Final = 100  # below this, cancelled timers are left where they are
SPANS: Final = 16.0  # a second; a power of two, so that products and quotients are exact


class SimHandle(asyncio.Handle):
    """A call at the next turn; made as asyncio does, without asking for debugging each time."""

    __slots__ = ()

    def __init__(
        self,
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


class SimTimer(asyncio.TimerHandle):
    """A call at a virtual second; one a frame is made."""

    __slots__ = ()

    def __init__(
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


Entry: TypeAlias = tuple[float, int, SimTimer]


class Timers:
    """Timers by their second; those of the same second in the order in which they were made."""

    __slots__ = ("_far", "_made", "_near", "_size", "_spans", "_stale", "_until")

    def __init__(self) -> None:
        self._near: list[Entry] = []  # a heap of what is due before ``_until``
        self._until = 1.0 / SPANS
        self._far: dict[float, list[Entry]] = {}  # by span, in no order
        self._spans: list[float] = []  # a heap of their numbers
        self._made = 0
        self._size = 0
        self._stale = 0

    def add(self, timer: SimTimer) -> None:
        """Take a timer in."""
        self._made += 1
        self._size += 1
        when = timer._when
        if when < self._until:
            heappush(self._near, (when, self._made, timer))
            return
        span = when if when == math.inf else when * SPANS // 1.0
        found = self._far.get(span)
        if found is None:
            found = self._far[span] = []
            heappush(self._spans, span)
        found.append((when, self._made, timer))

    def cancelled(self) -> None:
        """Take note that a timer was cancelled; when most were, they are thrown away."""
        self._stale += 1
        if self._stale > STALE and self._stale * 2 > self._size:
            for entries in (self._near, *self._far.values()):
                entries[:] = live(entries)
            heapify(self._near)
            self._size -= self._stale
            self._stale = 0

    def next(self) -> float:
        """Return when the next timer is due; infinity if there is none."""
        while True:
            near = self._near
            while near:
                if not near[0][2]._cancelled:
                    return near[0][0]
                heappop(near)
                self._size -= 1
                self._stale -= 1
            if not self._spans or self._spans[0] == math.inf:
                return math.inf
            self._open()

    def take_due(self, now: float, ready: deque[asyncio.Handle]) -> None:
        """Move the timers that are due to those that are ready; ``now`` is no later than ``next``.

        So whatever is due is in the heap.
        """
        near = self._near
        while near and near[0][0] <= now:
            timer = heappop(near)[2]
            self._size -= 1
            timer._scheduled = False
            if timer._cancelled:
                self._stale -= 1
            else:
                ready.append(timer)

    def live(self) -> list[SimTimer]:
        """Return those that were not cancelled, in no order."""
        every = (self._near, *self._far.values())
        return [timer for entries in every for _, _, timer in live(entries)]

    def __len__(self) -> int:
        return self._size

    def clear(self) -> None:
        """Forget all."""
        self._near.clear()
        self._far.clear()
        self._spans.clear()
        self._size = self._stale = 0

    def _open(self) -> None:
        """Put the next span into the heap, which is empty."""
        span = heappop(self._spans)
        entries = self._far.pop(span)
        self._near = live(entries)
        dropped = len(entries) - len(self._near)
        self._size -= dropped
        self._stale -= dropped
        heapify(self._near)
        self._until = (span + 1.0) / SPANS


def live(entries: list[Entry]) -> list[Entry]:
    """Return those that were not cancelled."""
    return [entry for entry in entries if not entry[2]._cancelled]
