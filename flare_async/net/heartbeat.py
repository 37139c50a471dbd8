"""Pings a quiet link and notices one that stays silent."""

from __future__ import annotations

from collections.abc import Callable

from flare_async.limits import Limits
from flare_async.ports import Clock, Timer

__all__ = ["SILENT_INTERVALS", "Heartbeat"]

SILENT_INTERVALS = 3


class Heartbeat:
    """Calls ``ping`` each interval without a word from the peer, and ``silent`` after three.

    Any frame counts as a word, so a link that is busy with bulk sends no pings at all. ``moved`` is
    when a part of a frame came last. It puts off the verdict and no ping: a peer that takes long to
    send one frame has nothing else to hear us by.
    """

    __slots__ = ("_clock", "_interval", "_ping", "_silent", "_timer", "heard", "moved")

    def __init__(
        self,
        clock: Clock,
        limits: Limits,
        ping: Callable[[], None],
        silent: Callable[[float], None],
    ) -> None:
        self._clock = clock
        self._interval = limits.heartbeat_interval
        self._ping = ping
        self._silent = silent
        self.heard = self.moved = clock.now()
        self._timer: Timer | None = None

    def start(self) -> None:
        """Begin to watch; ``heard`` is moved on by the session with each read."""
        self.heard = self._clock.now()
        self._timer = self._clock.call_at(self.heard + self._interval, self._beat)

    def stop(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        # Compared with the very sums that timers are set to: a difference may round below the
        # interval, and the timer would then be due at once, for ever.
        now, heard, interval = self._clock.now(), self.heard, self._interval
        end = max(heard, self.moved) + SILENT_INTERVALS * interval
        if now >= end:
            self._timer = None
            self._silent(now - max(heard, self.moved))
            return
        due = heard + interval
        if now >= due:
            self._ping()
            due = min(now + interval, end)
        self._timer = self._clock.call_at(due, self._beat)
