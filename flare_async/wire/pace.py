"""How much bulk may be under way on one link at a time, whatever the channels' credit is."""

from __future__ import annotations

from typing import Final

from flare_async.limits import KIB

__all__ = ["Pace"]

_LEAST: Final = 64 * KIB  # shorter frames cost more than they spare


class Pace:
    """Divides the bytes that a link should hold among the channels that have something to send.

    Credit says what the receiver can take; it is granted to each channel, so with many channels it
    is far more than the path holds, and the rest waits in the system's buffers, where a control
    frame has to wait behind it. A channel may have ``share`` bytes sent and not acknowledged. A
    reader who stands still keeps its own share and nobody else's.
    """

    __slots__ = ("_senders", "_total", "share")

    def __init__(self, total: int) -> None:
        self._total = total
        self._senders = 0
        self.share = total

    def set(self, total: int) -> None:
        """Change what the link may hold."""
        self._total = total
        self._divide()

    def joined(self) -> None:
        """Take note that one more channel has something to send."""
        self._senders += 1
        self._divide()

    def left(self) -> None:
        """Take note that a channel has sent everything, or was closed."""
        self._senders -= 1
        self._divide()

    def _divide(self) -> None:
        self.share = max(_LEAST, self._total // max(1, self._senders))
