"""Bound a wait by progress instead of by a total time.

Whoever makes progress moves a timestamp (``Progress.feed``: one assignment, no timer). Only while
something is parked does the watchdog hold a timer, one for all: set for the earliest deadline that
was known when it was set. When it fires, the deadlines are computed anew from the timestamps; what
is idle for its whole patience fails, the rest decides when the timer is due again. So parking and
unparking cost O(1), a firing O(parked), and a send costs no scope, no task and no timer: a timer
that outlives the last wait is used by the next one, or fires once and finds nothing.

Detection is never early and late by the loop's own lag only. A timer that comes more than
``LAG_SECONDS`` late shows that this process, not its peers, stood still (stopped, swapped, or its
loop blocked). The lateness, at most the patience, is then credited once to every parked watch,
counted from now where a deadline has passed meanwhile. Once means until its next progress: a loop
that is always late still finds what is dead.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self, TypeVar

from flare_async.errors import FlareError, LocalProtocolError
from flare_async.ports import Clock, Timer

__all__ = ["LAG_SECONDS", "Moving", "Progress", "Watch", "Watchdog"]

LAG_SECONDS = 0.25  # a timer that is later than this was held up by our own process

T = TypeVar("T")


class Moving(Protocol):
    """What can be watched."""

    @property
    def at(self) -> float:
        """When it last moved."""


class Progress:
    """When something last moved on; shared by whoever feeds it and whoever watches it."""

    __slots__ = ("at",)

    def __init__(self, now: float) -> None:
        self.at = now

    def feed(self, now: float) -> None:
        """Take note of progress at ``now``."""
        self.at = now


class Watch:
    """One parked wait; ``cancel`` ends it."""

    __slots__ = (
        "_credit",
        "_credited_at",
        "_on_stall",
        "_parked",
        "_patience",
        "_progress",
        "_start",
    )

    def __init__(
        self,
        parked: dict[Watch, None],
        start: float,
        progress: Moving,
        patience: float,
        on_stall: Callable[[float], None],
    ) -> None:
        self._parked = parked
        self._start = start
        self._progress = progress
        self._patience = patience
        self._on_stall = on_stall
        self._credit = 0.0
        self._credited_at = -math.inf

    @property
    def deadline(self) -> float:
        """When the wait fails if nothing moves until then."""
        since = self._since
        credit = self._credit if self._credited_at == since else 0.0
        return since + self._patience + credit

    def cancel(self) -> None:
        """End the watch; harmless when it has ended or fired."""
        self._parked.pop(self, None)

    @property
    def _since(self) -> float:
        return max(self._progress.at, self._start)

    def credit(self, now: float, lateness: float) -> None:
        """Add time in which this process, not the peer, stood still; once a piece of progress."""
        since = self._since
        if self._credited_at == since:
            return
        overdue = max(0.0, now - self.deadline)
        self._credited_at = since
        self._credit = overdue + min(lateness, self._patience)

    def fire(self, now: float) -> None:
        """Report the stall, unless the watch was cancelled meanwhile."""
        if self in self._parked:
            self.cancel()
            self._on_stall(now - self._since)


class Watchdog:
    """Watch any number of waits with at most one timer.

    Owned by the outermost role or environment block, which ends its tasks before it closes the
    watchdog; passed down to everything that waits for a peer.
    """

    __slots__ = ("_clock", "_closed", "_due", "_parked", "_timer")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._parked: dict[Watch, None] = {}
        self._timer: Timer | None = None
        self._due = math.inf
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def parked(self) -> int:
        """How many waits are watched now."""
        return len(self._parked)

    @property
    def timers(self) -> int:
        """How many timers are armed: none or one."""
        return 0 if self._timer is None else 1

    def close(self) -> None:
        """Cancel the timer and forget every watch; closing twice is harmless."""
        self._closed = True
        self._parked.clear()
        self._disarm()

    def watch(
        self,
        progress: Moving,
        patience: float,
        on_stall: Callable[[float], None],
        since: float = math.inf,
    ) -> Watch:
        """Call ``on_stall(idle_seconds)`` once when nothing has moved for ``patience`` seconds.

        They count from now, or from ``since`` if that is earlier.

        Raises:
            LocalProtocolError: the watchdog is closed, or the patience is not positive.
        """
        if self._closed:
            raise LocalProtocolError("a closed watchdog cannot bound a wait")
        if not patience > 0:
            raise LocalProtocolError(f"a patience of {patience} s bounds no wait")
        start = min(since, self._clock.now())
        watch = Watch(self._parked, start, progress, patience, on_stall)
        self._parked[watch] = None
        if start + patience < self._due:  # no deadline is earlier than that
            deadline = watch.deadline
            if deadline < self._due:
                self._arm(deadline)
        return watch

    def recheck(self) -> None:
        """Set the timer anew, because what is watched was put into the future and is back."""
        self._rearm()

    async def wait(
        self,
        future: asyncio.Future[T],
        progress: Moving,
        patience: float,
        error: Callable[[float], FlareError],
    ) -> T:
        """Wait for ``future``, which fails with ``error(idle_seconds)`` when progress stops.

        Idle time counts from the last progress or the start of this wait, whichever is later.
        Cancelling cancels the future and leaves no watch.

        Raises:
            FlareError: what ``error`` made, after ``patience`` seconds without progress.
            LocalProtocolError: the watchdog is closed, or the patience is not positive.
        """
        if future.done():
            return future.result()

        def fail(idle: float) -> None:
            if not future.done():
                future.set_exception(error(idle))

        watch = self.watch(progress, patience, fail)
        try:
            return await future
        finally:
            watch.cancel()

    def _arm(self, due: float) -> None:
        self._disarm()
        if due < math.inf:
            self._due = due
            self._timer = self._clock.call_at(due, self._fire)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._due = math.inf

    def _fire(self) -> None:
        now = self._clock.now()
        lateness = now - self._due
        self._timer = None
        self._due = math.inf
        if lateness > LAG_SECONDS:
            for watch in self._parked:
                watch.credit(now, lateness)
        due = [watch for watch in self._parked if watch.deadline <= now]
        try:
            for watch in due:
                watch.fire(now)
        finally:
            self._rearm()

    def _rearm(self) -> None:
        if self._parked:
            earliest = min(watch.deadline for watch in self._parked)
            if earliest < self._due:
                self._arm(earliest)
