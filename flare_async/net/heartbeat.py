"""Pings a quiet link and notices one that stays silent."""

from __future__ import annotations

from collections.abc import Callable

from flare_async.limits import Limits
from flare_async.net.watchdog import LAG_SECONDS
from flare_async.ports import Clock, Timer

__all__ = ["SILENT_INTERVALS", "Heartbeat"]

SILENT_INTERVALS = 3
LATE_BEATS = 12  # in a row: a loop that is always late still finds what is dead


class Heartbeat:
    """Calls ``ping`` each interval without a word from the peer, and ``silent`` after three.

    Any frame counts as a word, so a link that is busy with bulk sends no pings at all. ``moved`` is
    when a part of a frame came last. It puts off the verdict and no ping: a peer that takes long to
    send one frame has nothing else to hear us by.

    A beat that comes more than ``LAG_SECONDS`` late shows that this process stood still, and what
    the peer said meanwhile may still wait to be read. The lateness is no silence of the peer's, and
    such a beat asks instead of judging: the verdict waits for one more interval on time.
    """

    __slots__ = (
        "_clock",
        "_due",
        "_interval",
        "_late",
        "_patience",
        "_ping",
        "_silent",
        "_timer",
        "heard",
        "moved",
    )

    def __init__(
        self,
        clock: Clock,
        limits: Limits,
        ping: Callable[[], None],
        silent: Callable[[float], None],
    ) -> None:
        self._clock = clock
        self._interval = limits.heartbeat_interval
        # Whoever allows a hello that long has round trips that take so long.
        self._patience = max(SILENT_INTERVALS * limits.heartbeat_interval, limits.handshake_timeout)
        self._ping = ping
        self._silent = silent
        self.heard = self.moved = self._due = clock.now()
        self._late = 0
        self._timer: Timer | None = None

    @property
    def stopped(self) -> bool:
        """Whether nothing is watched now."""
        return self._timer is None

    def start(self) -> None:
        """Begin to watch; ``heard`` is moved on by the session with each read."""
        self.heard = self._clock.now()
        self._set(self.heard + self._interval)

    def stop(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        # Compared with the very sums that timers are set to: a difference may round below the
        # interval, and the timer would then be due at once, for ever.
        now, heard, interval = self._clock.now(), self.heard, self._interval
        if now - self._due > LAG_SECONDS and self._late < LATE_BEATS:
            self._ask_again(now)
            return
        self._late = 0
        end = max(heard, self.moved) + self._patience
        if now >= end:
            self._timer = None
            self._silent(now - max(heard, self.moved))
            return
        due = heard + interval
        quiet = now >= due
        self._set(min(now + interval, end) if quiet else due)
        if quiet:
            self._ping()

    def _ask_again(self, now: float) -> None:
        self._late += 1
        self.heard = min(now, max(self.heard, self.moved) + now - self._due)
        self._set(now + self._interval)
        self._ping()

    def _set(self, due: float) -> None:
        self._due = due
        self._timer = self._clock.call_at(due, self._beat)
