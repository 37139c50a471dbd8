"""Who gets a task, when a round is over, and who is revoked: pure decisions.

``handle(event, now)`` returns actions for the coroutine around it to carry out. Sites are offered
their task in cohort order, at most ``window`` ahead of the first one that is not settled, because
updates are summed in that order and one that waits for its turn costs memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TypeAlias

__all__ = [
    "Action",
    "Arrived",
    "Close",
    "CloseReason",
    "DeadlinePassed",
    "Event",
    "Failed",
    "Left",
    "Offer",
    "Revoke",
    "RoundMachine",
    "RoundPlan",
    "Started",
]


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """Which sites are asked, in which order, and what closes the round.

    The round closes when ``target`` updates have arrived, when all sites are settled, when
    ``quorum`` is out of reach, or at ``deadline`` seconds after its start.

    Raises:
        ValueError: the numbers contradict each other.
    """

    sites: tuple[str, ...]
    quorum: int
    target: int
    deadline: float | None = None
    window: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.quorum <= self.target <= len(self.sites):
            raise ValueError(
                f"quorum {self.quorum}, target {self.target}, {len(self.sites)} sites: "
                "1 <= quorum <= target <= sites is needed"
            )
        if len(set(self.sites)) != len(self.sites):
            raise ValueError("a site is listed twice")
        if self.window is not None and self.window < 1:
            raise ValueError(f"window {self.window}: at least one site must be at work")


@dataclass(frozen=True, slots=True)
class Started:
    """The round begins."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A site's update is whole, verified and admitted."""

    site: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A site will bring no update."""

    site: str


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The round's time is up."""


@dataclass(frozen=True, slots=True)
class Left:
    """Whoever runs the round has had enough of it."""


@dataclass(frozen=True, slots=True)
class Offer:
    """Give the site its task."""

    site: str


@dataclass(frozen=True, slots=True)
class Revoke:
    """Take the task back from a site that has not brought its update, offered or not."""

    site: str


class CloseReason(StrEnum):
    """Why a round was closed."""

    COMPLETE = "complete"  # every site is settled
    TARGET = "target"  # enough updates arrived
    DEADLINE = "deadline"  # time was up and the quorum reached
    NO_QUORUM = "no_quorum"  # too few updates can still arrive, or had at the deadline
    LEFT = "left"  # its block ended before


@dataclass(frozen=True, slots=True)
class Close:
    """End the round."""

    reason: CloseReason


Event: TypeAlias = Started | Arrived | Failed | DeadlinePassed | Left
Action: TypeAlias = Offer | Revoke | Close


class _State(Enum):
    WAITING = "waiting"
    OFFERED = "offered"
    ARRIVED = "arrived"
    FAILED = "failed"
    REVOKED = "revoked"


_SETTLED = frozenset({_State.ARRIVED, _State.FAILED, _State.REVOKED})


class RoundMachine:
    """The state of one round."""

    def __init__(self, plan: RoundPlan) -> None:
        self.plan = plan
        self._states = dict.fromkeys(plan.sites, _State.WAITING)
        self._next = 0  # index of the first site that was not offered its task
        self._cursor = 0  # index of the first site that is not settled
        self.arrived = 0
        self._failed = 0
        self.closed: CloseReason | None = None

    def handle(self, event: Event) -> list[Action]:
        """Return what to do now; an event after the close changes nothing."""
        if self.closed is not None:
            return []
        changed = True
        match event:
            case Arrived(site):
                changed = self._settle(site, _State.ARRIVED)
                self.arrived += changed
            case Failed(site):
                changed = self._settle(site, _State.FAILED)
                self._failed += changed
            case DeadlinePassed():
                return self._close(self._at_deadline())
            case Left():
                return self._close(CloseReason.LEFT)
            case Started():
                pass
        return self._judge() if changed else []

    def _at_deadline(self) -> CloseReason:
        enough = self.arrived >= self.plan.quorum
        return CloseReason.DEADLINE if enough else CloseReason.NO_QUORUM

    def _settle(self, site: str, state: _State) -> bool:
        if self._states[site] is not _State.OFFERED:
            return False
        self._states[site] = state
        while self._cursor < len(self.plan.sites) and self._is_settled(self._cursor):
            self._cursor += 1
        return True

    def _is_settled(self, index: int) -> bool:
        return self._states[self.plan.sites[index]] in _SETTLED

    def _judge(self) -> list[Action]:
        plan = self.plan
        if self.arrived >= plan.target:
            everybody = self._cursor == len(plan.sites)
            return self._close(CloseReason.COMPLETE if everybody else CloseReason.TARGET)
        possible = len(plan.sites) - self._failed
        if possible < plan.quorum:
            return self._close(CloseReason.NO_QUORUM)
        if self._cursor == len(plan.sites):
            return self._close(CloseReason.COMPLETE)
        return self._offer_more()

    def _offer_more(self) -> list[Action]:
        sites, window = self.plan.sites, self.plan.window
        end = len(sites) if window is None else min(len(sites), self._cursor + window)
        actions: list[Action] = []
        while self._next < end:
            site = sites[self._next]
            self._states[site] = _State.OFFERED
            actions.append(Offer(site))
            self._next += 1
        return actions

    def _close(self, reason: CloseReason) -> list[Action]:
        self.closed = reason
        revoked: list[Action] = []
        for site, state in self._states.items():
            if state not in _SETTLED:
                self._states[site] = _State.REVOKED
                revoked.append(Revoke(site))
        return [*revoked, Close(reason)]
