"""Whether a peer that moves also moves enough: ``min_rate`` over spans of ``stall_timeout``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flare_async.errors import BelowMinRate
from flare_async.limits import Limits
from flare_async.net.watchdog import Progress, Watch
from flare_async.wire.frames import ResetCode

if TYPE_CHECKING:
    from flare_async.net.inflow import Inflow

__all__ = ["Demand", "Rate"]


class Rate:
    """Bytes a second while a peer owes something; measured over whole spans, so bursts count.

    What is counted are the bytes of the *session*: a fast link that carries many channels in turn
    is not slow because each of them is.
    """

    __slots__ = ("_began", "_first", "_limits", "_nbytes", "_since")

    def __init__(self, now: float, nbytes: int, limits: Limits) -> None:
        self._since = self._began = now
        self._nbytes = self._first = nbytes
        self._limits = limits

    def overall(self, now: float, nbytes: int, resumed: float, under_way: int) -> float | None:
        """Return the rate since the beginning if it is below ``min_rate``, else None.

        Bytes are counted when their frame is complete, so ``under_way`` more may be here: over a
        short time that forgives everything, over a long one nothing.
        """
        if resumed > self._began:
            self._began, self._first = resumed, nbytes
        seconds = now - self._began
        if seconds < self._limits.stall_timeout:
            return None
        rate = (nbytes - self._first + under_way) / seconds
        return rate if rate < self._limits.min_rate else None

    def check(self, now: float, nbytes: int, resumed: float) -> float | None:
        """Return the rate of the span that ends now if it is below ``min_rate``, else None.

        A span that began before the session got its latest link begins again with that link.
        """
        if resumed > self._since:
            self._since, self._nbytes = resumed, nbytes
        seconds = now - self._since
        if seconds < self._limits.stall_timeout:
            return None
        rate = (nbytes - self._nbytes) / seconds
        self._since, self._nbytes = now, nbytes
        return rate if rate < self._limits.min_rate else None

    def error(self, peer: str, topic: str, rate: float) -> BelowMinRate:
        """Return the error that names the peer."""
        limits = self._limits
        return BelowMinRate(peer, topic, rate, limits.min_rate, limits.stall_timeout)


class Demand:
    """Holds what arrives on one channel, while somebody waits for it, against ``min_rate``."""

    __slots__ = ("_channel", "_rate", "_watch")

    def __init__(self, channel: Inflow) -> None:
        session = channel.session
        self._channel = channel
        self._rate = Rate(session.clock.now(), session.flow.nbytes, session.limits)
        self._watch: Watch | None = None

    def begin(self) -> None:
        """Look at the rate in time: what comes byte by byte completes no piece."""
        session = self._channel.session
        progress = Progress(session.clock.now())
        patience = session.limits.stall_timeout
        self._watch = session.watchdog.watch(progress, patience, self._overdue)

    def end(self) -> None:
        """Look no longer: nobody waits."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def moved(self) -> None:
        """Take note that a piece is complete."""
        session = self._channel.session
        self._judge(
            self._rate.check(session.clock.now(), session.flow.nbytes, session.flow.resumed)
        )

    def _overdue(self, _: float) -> None:
        session = self._channel.session
        frame = min(session.link.frame_bytes, session.limits.frame_bytes)
        flow = session.flow
        found = self._rate.overall(session.clock.now(), flow.nbytes, flow.resumed, frame)
        if found is None:
            self.begin()
        self._judge(found)

    def _judge(self, found: float | None) -> None:
        if found is not None:
            error = self._rate.error(self._channel.peer, self._channel.topic, found)
            self._channel.give_up(error, str(error), ResetCode.TOO_SLOW)
