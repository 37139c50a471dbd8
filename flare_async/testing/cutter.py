"""Cuts a link at the times that its plan names."""

from __future__ import annotations

import math

from flare_async.ports import Clock, Timer
from flare_async.testing.link import SimLink
from flare_async.testing.plan import FaultPlan

__all__ = ["Cutter"]


class Cutter:
    """One timer for the next cut of one link; none where nothing is planned or it has ended."""

    __slots__ = ("_clock", "_link", "_plan", "_timer")

    def __init__(self, link: SimLink, clock: Clock, plan: FaultPlan) -> None:
        self._link = link
        self._clock = clock
        self._plan = plan
        self._timer: Timer | None = None

    def start(self) -> None:
        """Set the timer, if there is a cut to come."""
        when = self._plan.next_cut(self._link.site)
        if when < math.inf:
            self._timer = self._clock.call_at(when, self._link.cut)
            for end in (self._link, self._link.peer):
                end.on_end = self._stop

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
