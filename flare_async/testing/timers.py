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

__all__ = ["Alarm", "Due", "SimHandle", "SimTimer", "Timers"]

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
    """A call at a virtual second."""

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


class Alarm:
    """What rings at a virtual second, and may be set again when it has: frames arrive one by one.

    It is its own timer, and so setting it makes no object, and it rings in no context of its own.
    """

    __slots__ = ("_cancelled", "_loop", "_scheduled")

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self._cancelled = False
        self._scheduled = False  # among the timers

    def ring(self) -> None:
        """Do what is due now."""
        raise NotImplementedError

    def set(self, when: float) -> None:
        """Let it ring at ``when``; it must not be set already."""
        self._scheduled = True
        self._loop.timers.add(when, self)

    def cancel(self) -> None:
        """Let it never ring again."""
        if not self._cancelled:
            self._cancelled = True
            if self._scheduled:
                self._loop.timers.cancelled()

    def _run(self) -> None:
        try:
            self.ring()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:  # noqa: BLE001 - as every handle of asyncio does
            context = {"message": f"Exception in {type(self).__name__}.ring", "exception": exc}
            self._loop.call_exception_handler(context)


Due: TypeAlias = SimTimer | Alarm
Entry: TypeAlias = tuple[float, int, Due]


class Timers:
    """Timers by their second; those of the same second in the order in which they were made."""

    __slots__ = ("_far", "_gone", "_made", "_spans", "_stale", "_until", "near")

    def __init__(self) -> None:
        self.near: list[Entry] = []  # a heap of what is due before ``_until``
        self._until = 1.0 / SPANS
        self._far: dict[float, list[Entry]] = {}  # by span, in no order
        self._spans: list[float] = []  # a heap of their numbers
        self._made = 0
        self._gone = 0
        self._stale = 0

    def add(self, when: float, timer: Due) -> None:
        """Take a timer in."""
        self._made = made = self._made + 1
        if when < self._until:
            heappush(self.near, (when, made, timer))
            return
        span = when if when == math.inf else when * SPANS // 1.0
        found = self._far.get(span)
        if found is None:
            found = self._far[span] = []
            heappush(self._spans, span)
        found.append((when, made, timer))

    def cancelled(self) -> None:
        """Take note that a timer was cancelled; when most were, they are thrown away."""
        self._stale += 1
        if self._stale > STALE and self._stale * 2 > len(self):
            for entries in (self.near, *self._far.values()):
                entries[:] = live(entries)
            heapify(self.near)
            self._gone += self._stale
            self._stale = 0

    def next(self) -> float:
        """Return when the next timer is due; infinity if there is none."""
        while True:
            near = self.near
            while near:
                if not near[0][2]._cancelled:
                    return near[0][0]
                heappop(near)
                self._gone += 1
                self._stale -= 1
            if not self._spans or self._spans[0] == math.inf:
                return math.inf
            self._open()

    def take_due(self, now: float, ready: deque[asyncio.Handle | Alarm]) -> None:
        """Move the timers that are due to those that are ready; ``now`` is no later than ``next``.

        So whatever is due is in the heap.
        """
        near = self.near
        while near and near[0][0] <= now:
            timer = heappop(near)[2]
            self._gone += 1
            timer._scheduled = False
            if timer._cancelled:
                self._stale -= 1
            else:
                ready.append(timer)

    def live(self) -> list[Due]:
        """Return those that were not cancelled and have their second, in no order."""
        every = (self.near, *self._far.values())
        found = [entry for entries in every for entry in live(entries)]
        return [timer for when, _, timer in found if when < math.inf]

    def __len__(self) -> int:
        return self._made - self._gone

    def clear(self) -> None:
        """Forget all."""
        self.near.clear()
        self._far.clear()
        self._spans.clear()
        self._made = self._gone = self._stale = 0

    def _open(self) -> None:
        """Put the next span into the heap, which is empty."""
        span = heappop(self._spans)
        entries = self._far.pop(span)
        self.near = live(entries)
        dropped = len(entries) - len(self.near)
        self._gone += dropped
        self._stale -= dropped
        heapify(self.near)
        self._until = (span + 1.0) / SPANS


def live(entries: list[Entry]) -> list[Entry]:
    """Return those that were not cancelled."""
    return [entry for entry in entries if not entry[2]._cancelled]
