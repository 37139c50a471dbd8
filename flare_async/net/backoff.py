"""Pauses between tries: exponential, capped, with full jitter."""

from __future__ import annotations

from typing import Final

from flare_async.ports import Random

__all__ = ["FIRST_PAUSE", "Backoff"]

FIRST_PAUSE: Final = 1.0  # seconds that the first pause lasts at most; the bound doubles


class Backoff:
    """Each pause is drawn evenly up to a bound that doubles, from ``first`` to ``cap`` seconds.

    Peers that failed together so do not come back together ("full jitter" in M. Brooker,
    "Exponential Backoff and Jitter", AWS Architecture Blog, 2015).
    """

    __slots__ = ("_cap", "_first", "_random", "_stream", "tries")

    def __init__(self, random: Random, stream: str, cap: float, first: float = FIRST_PAUSE) -> None:
        self._first = first
        self._random = random
        self._stream = stream
        self._cap = cap
        self.tries = 0

    @property
    def bound(self) -> float:
        """How long the next pause may last, in seconds."""
        return min(self._cap, self._first * 2.0 ** min(self.tries, 32))

    def pause(self) -> float:
        """Return the next pause in seconds."""
        bound = self.bound
        self.tries += 1
        if self._random.buggify("no pause"):
            return 0.0
        return self._random.stream(self._stream).uniform(0, bound)

    def reset(self) -> None:
        """Begin again with short pauses: something moved."""
        self.tries = 0
