"""How many channels one site has open to another, so that none takes a way for itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from flare_async.limits import Limits

__all__ = ["Pairs"]

PARTS: Final = 4  # of a session's channels: what one site may have open to another


class Pairs:
    """Counts channels by who opened them and whom they are for.

    All that goes to a site shares the channels of one session, with the server's own tasks.
    """

    __slots__ = ("_most", "_open")

    def __init__(self, limits: Limits) -> None:
        self._most = max(1, limits.channels // PARTS)
        self._open: Counter[tuple[str, str]] = Counter()

    def begin(self, origin: str, destination: str) -> Callable[[], None] | None:
        """Count a channel; return what to call once when it is over, None for one too many."""
        pair = origin, destination
        if self._open[pair] >= self._most:
            return None
        self._open[pair] += 1

        def over() -> None:
            self._open[pair] -= 1
            if not self._open[pair]:
                del self._open[pair]

        return over
