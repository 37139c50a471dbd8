"""The faults of one network: which of them concern a link, and how far they have counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from flare_async.errors import ConfigError
from flare_async.ports import Clock, Random
from flare_async.testing.faults import Direction, Fault
from flare_async.testing.strikers import Tally
from flare_async.testing.strikes import Cut
from flare_async.testing.way import Way, seconds_until

__all__ = ["FaultPlan", "checked_faults"]

DIRECTIONS: Final[tuple[Direction, Direction]] = ("up", "down")


class FaultPlan:
    """Faults at work on one network, from the moment at which it is made.

    Each direction of each site has random numbers of its own, so that a fault that is added for
    one site changes nothing for the others.

    Raises:
        ConfigError: something else than a fault was given.
    """

    def __init__(self, faults: Sequence[Fault], clock: Clock, random: Random) -> None:
        self.faults = checked_faults(faults)
        self._clock = clock
        self._random = random
        self._began = clock.now()
        self._tallies: dict[tuple[int, str | None, Direction], Tally] = {}

    def now(self) -> float:
        """Return seconds since the network was made."""
        return self._clock.now() - self._began

    def way(self, site: str | None, direction: Direction) -> Way | None:
        """Return what concerns one direction of a new link of a site; None if nothing does."""
        found = [
            (fault, self._tallies.setdefault((index, site, direction), Tally()))
            for index, fault in enumerate(self.faults)
            if fault.concerns(site, direction)
        ]
        if not found:
            return None
        return Way(self, found, self._random.stream(f"faults {direction} {site}"))

    def opens_in(self, site: str | None) -> float:
        """Return in how many seconds a site can connect: 0 is now, infinity never."""
        now = self.now()
        later = math.nextafter(now, math.inf)  # the connection is still to be made
        times = [f.opens_at(now, later) for f in self._concerning(site) if f.active(now)]
        return seconds_until(max(times, default=now), now)

    def next_cut(self, site: str | None) -> float:
        """Return the clock's time of the next cut of a site's links; infinity if there is none."""
        now = self.now()
        cuts = (f.next_cut(now) for f in self._concerning(site) if isinstance(f, Cut))
        return self._began + min(cuts, default=math.inf)

    def _concerning(self, site: str | None) -> list[Fault]:
        return [f for f in self.faults if any(f.concerns(site, way) for way in DIRECTIONS)]


def checked_faults(faults: object) -> tuple[Fault, ...]:
    """Return the faults as a tuple.

    Raises:
        ConfigError: something else was given.
    """
    given = tuple(faults) if isinstance(faults, Sequence) else (faults,)
    for fault in given:
        if not isinstance(fault, Fault):
            raise ConfigError("faults", fault, "is no fault", "see flare_async.testing.faults")
    return given
