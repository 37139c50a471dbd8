"""Whoever is shaking hands: one step a turn of the loop, bounded in number and in time.

A handshake costs about a millisecond of computing. A thousand clients that come back at once would
otherwise hold up every established link for a second.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

__all__ = ["HALF_OPEN", "Handshakes", "Shaking", "Turns"]

HALF_OPEN: Final = 1024  # more could not be done within the default handshake_timeout anyway


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

    def __init__(self, timeout: float, most: int = HALF_OPEN) -> None:
        self._timeout = timeout
        self._most = most
        self._timers: dict[Shaking, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._timers)

    def admit(self, link: Shaking) -> bool:
        """Begin to count and to time; False when there are too many."""
        if len(self._timers) >= self._most:
            return False
        loop = asyncio.get_running_loop()
        self._timers[link] = loop.call_later(self._timeout, link.too_late)
        return True

    def done(self, link: Shaking) -> None:
        """Forget a link, whichever way its handshake went."""
        timer = self._timers.pop(link, None)
        if timer is not None:
            timer.cancel()

    def close(self) -> None:
        """Abort them all."""
        for link in list(self._timers):
            self.done(link)
            link.abort()
