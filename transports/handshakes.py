"""Whoever is shaking hands: one step a turn of the loop, bounded in number and in time.

A handshake costs about a millisecond of computing. A thousand clients that come back at once would
otherwise hold up every established link for a second.

Where too many shake hands, the one for whose next word we have waited longest goes: an honest peer
speaks within a round trip, so a crowd that says nothing, or little by little, cannot keep it out.
Who waits for its turn is not given up, because that wait is ours: if half of all places are taken
by such links, computing is what is short, and it is the newest that goes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

__all__ = ["Handshakes", "Shaking", "Turns"]


class Turns:
    """Calls in the order in which they were asked for, one in each turn of the loop."""

    def __init__(self) -> None:
        self._steps: deque[Callable[[], None]] = deque()

    def take(self, step: Callable[[], None]) -> None:
        """Call ``step`` when its turn comes."""
        self._steps.append(step)
        if len(self._steps) == 1:
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        try:
            self._steps[0]()
        finally:
            self._steps.popleft()
            if self._steps:
                asyncio.get_running_loop().call_soon(self._run)


class Shaking(Protocol):
    """A link whose handshake is not done."""

    def too_late(self) -> None:
        """Give up: the time for the handshake is over."""

    def abort(self) -> None:
        """End the link now."""


class Handshakes:
    """The half-open links of one listener: at most ``most``, each for ``timeout`` seconds."""

    def __init__(self, timeout: float, most: int) -> None:
        self._timeout = timeout
        self._most = most
        self._timers: dict[Shaking, asyncio.TimerHandle] = {}
        self._awaited: dict[Shaking, None] = {}  # whose turn it is, the longest wait first

    def __len__(self) -> int:
        return len(self._timers)

    def admit(self, link: Shaking) -> bool:
        """Begin to count and to time, and to wait for its word; False when there is no room."""
        if len(self._timers) >= self._most and not self._make_room():
            return False
        loop = asyncio.get_running_loop()
        self._timers[link] = loop.call_later(self._timeout, link.too_late)
        self._awaited[link] = None
        return True

    def heard(self, link: Shaking) -> None:
        """Take note that a link has spoken: the next word is ours."""
        self._awaited.pop(link, None)

    def answered(self, link: Shaking) -> None:
        """Take note that a link has what it waited for, and wait for its next word."""
        if link in self._timers:
            self._awaited[link] = None

    def done(self, link: Shaking) -> None:
        """Forget a link, whichever way its handshake went."""
        self._awaited.pop(link, None)
        timer = self._timers.pop(link, None)
        if timer is not None:
            timer.cancel()

    def close(self) -> None:
        """Abort them all."""
        for link in list(self._timers):
            self.done(link)
            link.abort()

    def _make_room(self) -> bool:
        if 2 * len(self._awaited) < self._most:
            return False
        oldest = next(iter(self._awaited))
        self.done(oldest)
        oldest.abort()
        return True
