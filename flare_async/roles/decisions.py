"""What a round is told, and what it then has done: the words of ``RoundMachine``."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from flare_async.hot_value import hot_value

__all__ = [
    "Action",
    "Arrived",
    "Close",
    "CloseReason",
    "DeadlinePassed",
    "Dropped",
    "Event",
    "Failed",
    "Gather",
    "Gathered",
    "Kept",
    "Left",
    "Offer",
    "Revoke",
    "Started",
]


@hot_value(frozen=True, slots=True)
class Started:
    """The round begins."""


@hot_value(frozen=True, slots=True)
class Arrived:
    """A site's update is whole, verified and admitted."""

    site: str


@hot_value(frozen=True, slots=True)
class Failed:
    """A site will bring no update."""

    site: str


@hot_value(frozen=True, slots=True)
class Kept:
    """A site's update is whole, verified and admitted at its relay."""

    site: str


@hot_value(frozen=True, slots=True)
class Gathered:
    """The sum of what a relay kept of these sites is admitted: their updates have arrived."""

    sites: tuple[str, ...]


@hot_value(frozen=True, slots=True)
class Dropped:
    """What a relay kept of these sites is lost; they are asked again."""

    sites: tuple[str, ...]


@hot_value(frozen=True, slots=True)
class DeadlinePassed:
    """The round's time is up."""


@hot_value(frozen=True, slots=True)
class Left:
    """Whoever runs the round has had enough of it."""


@hot_value(frozen=True, slots=True)
class Offer:
    """Give the site its task."""

    site: str


@hot_value(frozen=True, slots=True)
class Revoke:
    """Take the task back from a site that has not brought its update, offered or not."""

    site: str


@hot_value(frozen=True, slots=True)
class Gather:
    """Have a group's relay pass on the sum of what it keeps, by the group's number in the plan."""

    group: int


class CloseReason(StrEnum):
    """Why a round was closed."""

    COMPLETE = "complete"  # every site is settled
    TARGET = "target"  # enough updates arrived
    DEADLINE = "deadline"  # time was up and the quorum reached
    NO_QUORUM = "no_quorum"  # too few updates can still arrive, or had at the deadline
    LEFT = "left"  # its block ended before


@hot_value(frozen=True, slots=True)
class Close:
    """End the round."""

    reason: CloseReason


Event: TypeAlias = Started | Arrived | Failed | Kept | Gathered | Dropped | DeadlinePassed | Left
Action: TypeAlias = Offer | Revoke | Gather | Close
