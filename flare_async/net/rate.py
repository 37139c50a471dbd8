"""Whether a peer that moves also moves enough: ``min_rate`` over spans of ``stall_timeout``."""

from __future__ import annotations

from flare_async.errors import BelowMinRate
from flare_async.limits import Limits

__all__ = ["Rate"]


class Rate:
    """Bytes a second while a peer owes something; measured over whole spans, so bursts count.

    What is counted are the bytes of the *session*: a fast link that carries many channels in turn
    is not slow because each of them is.
    """

    __slots__ = ("_limits", "_nbytes", "_since")

    def __init__(self, now: float, nbytes: int, limits: Limits) -> None:
        self._since = now
        self._nbytes = nbytes
        self._limits = limits

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
