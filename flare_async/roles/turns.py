"""How the pulls of many sites share a relay's credit: equal shares, and a queue for each site."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from flare_async.limits import KIB
from flare_async.net.buffers import BUFFER_BYTES, Buffers

__all__ = ["Turn", "Turns"]

LEAST_WINDOW: Final = 32 * KIB
PARTS: Final = 2  # pulls into which a site's share is divided, at least


@dataclass(slots=True, eq=False)
class Turn:
    """One pull of ``nbytes`` by ``site``; ``start(window)`` begins it and says whether it could."""

    site: str
    nbytes: int
    start: Callable[[int], bool]
    weight: int = 1  # how many sites the one that pulls stands for
    window: int = 0  # the credit that it has while it is under way
    is_over: bool = False


@dataclass(slots=True)
class _Share:
    """One site's pulls: those under way, with their credit, and those that wait."""

    taken: int = 0
    under_way: int = 0
    going_on: bool = False  # pulls that are over meanwhile are counted, and no more
    waiting: deque[Turn] = field(default_factory=deque)


class Turns:
    """Divides ``total`` bytes of credit and ``channels`` among as many sites as ``count`` says.

    A site that stalls keeps its own share and no more, so the others go on. Each site has at least
    one pull under way.
    """

    def __init__(self, total: int, channels: int, count: Callable[[], int]) -> None:
        self._total = total
        self._channels = channels
        self._count = count
        self._shares: dict[str, _Share] = {}
        self.buffers = Buffers(total // BUFFER_BYTES)

    def ask(self, turn: Turn) -> None:
        """Let a pull begin when it may, which can be at once; tell ``over`` when it is over."""
        share = self._shares.setdefault(turn.site, _Share())
        share.waiting.append(turn)
        self._go_on(turn.site, share)

    def over(self, turn: Turn) -> None:
        """Take note that a pull is over, begun or not; harmless more than once."""
        share = self._shares.get(turn.site)
        if not turn.is_over and share is not None and turn.window:
            share.under_way -= 1
            share.taken -= turn.window
            turn.is_over = True
            self._go_on(turn.site, share)
        turn.is_over = True

    def _go_on(self, site: str, share: _Share) -> None:
        if not share.going_on:  # hundreds of pulls that cannot begin are no recursion
            share.going_on = True
            try:
                self._begin_what_may(share)
            finally:
                share.going_on = False
            if not share.under_way and not share.waiting:
                self._shares.pop(site, None)

    def _begin_what_may(self, share: _Share) -> None:
        count = max(1, self._count())
        while share.waiting:
            turn = share.waiting[0]
            most = self._total * turn.weight // count
            channels = max(1, self._channels * turn.weight // count)
            window = max(1, min(turn.nbytes, max(most // PARTS, LEAST_WINDOW)))
            if share.under_way and (share.taken + window > most or share.under_way >= channels):
                return
            share.waiting.popleft()
            if not turn.is_over:
                turn.window = window
                share.under_way += 1
                share.taken += window
                if not turn.start(window):
                    self.over(turn)
