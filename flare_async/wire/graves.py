"""How channels ended, remembered for a peer that may not have heard of it."""

from __future__ import annotations

from typing import TypeVar

from flare_async.wire.frames import Ack, Reset, ResetCode

__all__ = ["Graves"]

ValueT = TypeVar("ValueT")


class Graves:
    """The last words of closed channels: their Reset, or what their final Ack said.

    The newest ``most`` of either kind: a peer cannot have more channels open, so it cannot ask for
    an older one. Frames arrive in order, so a Pong proves that everything queued before its Ping
    was heard: that is forgotten at once, and an idle session remembers nothing.
    """

    __slots__ = ("_due", "_finished", "_last_finished", "_last_reset", "_most", "_pings", "_resets")

    def __init__(self, most: int) -> None:
        self._most = most
        self._resets: dict[int, Reset] = {}
        self._finished: dict[int, int] = {}
        self._pings = 0  # pings without an answer yet
        self._due = 0  # the answers until the one that matters; 0 is none
        self._last_reset = self._last_finished = 0  # what that answer proves to be heard

    def __len__(self) -> int:
        """Return how many channels are remembered."""
        return len(self._resets) + len(self._finished)

    def finish(self, channel: int, total: int) -> None:
        """Remember a channel whose final Ack acknowledged ``total`` bytes."""
        self._bury(self._finished, channel, total)

    def reset(self, frame: Reset) -> None:
        """Remember a channel that this side gave up."""
        self._bury(self._resets, frame.channel, frame)

    def answer(self, channel: int) -> Ack | Reset:
        """Return what a peer must hear that has a closed channel still open."""
        reset = self._resets.get(channel)
        if reset is not None:
            return reset
        total = self._finished.get(channel)
        if total is not None:
            return Ack(channel, total, total)
        return Reset(channel, int(ResetCode.GONE), "how it ended is forgotten")

    def asked(self) -> None:
        """Take note that a Ping was queued."""
        self._pings += 1
        if not self._due:
            self._due = self._pings
            self._last_reset = next(reversed(self._resets), 0)
            self._last_finished = next(reversed(self._finished), 0)

    def answered(self) -> None:
        """Take note of a Pong."""
        self._pings = max(0, self._pings - 1)
        if self._due:
            self._due -= 1
            if not self._due:
                _forget(self._resets, self._last_reset)
                _forget(self._finished, self._last_finished)

    def detach(self) -> None:
        """Expect no Pong any more: the link is gone."""
        self._pings = self._due = 0

    def _bury(self, graves: dict[int, ValueT], channel: int, value: ValueT) -> None:
        graves[channel] = value
        if len(graves) > self._most:
            del graves[next(iter(graves))]


def _forget(graves: dict[int, ValueT], last: int) -> None:
    """Drop the oldest up to ``last``; when that has made room already, so have they."""
    while last in graves:
        del graves[next(iter(graves))]
