"""Who is asked next where there are no rounds, and who is asked no more: pure decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

__all__ = ["StreamMachine", "StreamPlan"]


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """``concurrency`` of the sites work at a time; fewer than ``quorum`` that can end the stream.

    A site that fails rests until an update has come, whosesoever; after ``failures`` in a row it
    is not asked again.

    Raises:
        ValueError: the numbers contradict each other.
    """

    sites: tuple[str, ...]
    quorum: int
    concurrency: int
    failures: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.quorum <= len(self.sites):
            raise ValueError(f"quorum {self.quorum} of {len(self.sites)} sites")
        if self.concurrency < 1 or self.failures < 1:
            raise ValueError(f"concurrency {self.concurrency}, failures {self.failures}")


class _State(Enum):
    IDLE = "idle"
    BUSY = "busy"
    HANDED = "handed"  # its update is with whoever iterates, or waits for them
    RESTING = "resting"
    OUT = "out"


class StreamMachine:
    """The state of every site of a stream."""

    def __init__(self, plan: StreamPlan) -> None:
        self.plan = plan
        self._states = dict.fromkeys(plan.sites, _State.IDLE)
        self._failures = dict.fromkeys(plan.sites, 0)
        self.arrived = 0

    @property
    def busy(self) -> int:
        """How many sites work."""
        return self._count(_State.BUSY)

    @property
    def room(self) -> int:
        """How many more may begin."""
        return max(0, self.plan.concurrency - self.busy - self._count(_State.HANDED))

    @property
    def left(self) -> int:
        """How many sites have not failed too often."""
        return len(self.plan.sites) - self._count(_State.OUT)

    @property
    def is_short(self) -> bool:
        """Whether too few sites are left."""
        return self.left < self.plan.quorum

    def idle(self) -> tuple[str, ...]:
        """Return who may be asked, in the order of the cohort; who rests, if nobody works."""
        found = self._of(_State.IDLE)
        if not found and not self.busy and not self._count(_State.HANDED):
            self._wake_resting()
            found = self._of(_State.IDLE)
        return found

    def begin(self, site: str) -> None:
        """Take note that a site was given a task."""
        self._states[site] = _State.BUSY

    def arrive(self, site: str) -> None:
        """Take note of an update."""
        self._states[site] = _State.HANDED
        self._failures[site] = 0
        self.arrived += 1
        self._wake_resting()

    def take_back(self, site: str) -> None:
        """Take note that a site's task was revoked; it may have another one."""
        self._states[site] = _State.IDLE

    def fail(self, site: str) -> None:
        """Take note that a site's task failed."""
        self._failures[site] += 1
        out = self._failures[site] >= self.plan.failures
        self._states[site] = _State.OUT if out else _State.RESTING

    def resume(self, sites: Sequence[str]) -> None:
        """Take note that what these sites brought has been looked at."""
        for site in sites:
            if self._states[site] is _State.HANDED:
                self._states[site] = _State.IDLE

    def wake(self) -> bool:
        """Let all who rest be asked again, as others may wait for them; say whether any does."""
        return self._wake_resting()

    def _wake_resting(self) -> bool:
        resting = self._of(_State.RESTING)
        for site in resting:
            self._states[site] = _State.IDLE
        return bool(resting)

    def _of(self, state: _State) -> tuple[str, ...]:
        return tuple(site for site, now in self._states.items() if now is state)

    def _count(self, state: _State) -> int:
        return len(self._of(state))
