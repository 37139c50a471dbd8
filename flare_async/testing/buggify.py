"""Unlikely things that the product's own code makes happen, where a simulation asks for it.

A fault comes from outside; some of the worst mistakes need something unlikely inside: a window of a
few bytes, a link that is given up for nothing, a pause of no length. Product code names such places
by ``random.buggify("tiny window")``, on the random port that it has anyway. On the real port and on
``SeededRandom`` the answer is no, without a draw. Here it is drawn: some of the points are at work
in a run, and one that is strikes now and then. Points stand where objects are made, never where
frames pass, so nothing is paid for them.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Final

from flare_async.net.rng import SeededRandom

__all__ = ["POINTS", "BuggyRandom"]

POINTS: Final = (
    "fed from memory",
    "forgotten manifest",
    "no pause",
    "one pull at a time",
    "short frames",
    "spurious reconnect",
    "tight budget",
    "tiny window",
)
STRIKES: Final = 0.25  # how often a point that is at work strikes


class BuggyRandom:
    """The random port of one ``host``; hosts of one seed have streams of their own.

    ``chance`` is the probability that a point is at work in a run; all hosts agree on which are.
    ``struck`` counts the strikes, by point; give all hosts the same counter.
    """

    def __init__(
        self,
        seed: int,
        host: str = "",
        *,
        chance: float = 0.0,
        struck: Counter[str] | None = None,
    ) -> None:
        self.struck: Counter[str] = Counter() if struck is None else struck
        self._seeded = SeededRandom(seed)
        self._host = host
        self._at_work = {
            point for point in POINTS if self._seeded.once(f"point {point}").random() < chance
        }

    def stream(self, name: str) -> random.Random:
        """Return this host's generator of that name; the same object at every call."""
        return self._seeded.stream(f"{self._host}:{name}")

    def once(self, name: str) -> random.Random:
        """Return a new generator that depends on seed, host and name only."""
        return self._seeded.once(f"{self._host}:{name}")

    def token(self, nbytes: int) -> bytes:
        """Return the host's next reproducible bytes."""
        return self.stream("token").randbytes(nbytes)

    def buggify(self, point: str) -> bool:
        """Return whether an unlikely thing happens here and now."""
        if point not in self._at_work:
            return False
        strikes = self.stream(f"buggify {point}").random() < STRIKES
        if strikes:
            self.struck[point] += 1
        return strikes
