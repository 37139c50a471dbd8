"""What a server and a relay that adds say to each other about the sum of one group of sites."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from flare_async.transfer.mean_options import SumRules
from flare_async.transfer.pull import TensorRef
from flare_async.wire.schema import Schema

__all__ = [
    "PARTIAL_SCHEMA",
    "PARTIAL_TASK_SCHEMA",
    "PARTIAL_TOPIC",
    "REDUCES",
    "Contributor",
    "Drop",
    "Keep",
    "PartialMessage",
    "PartialReady",
    "PartialTask",
    "Pass",
    "Take",
    "Taken",
    "Trouble",
    "Untaken",
]

PARTIAL_TOPIC = "partial"
REDUCES = b"reduce"  # the header of a routes channel whose relay adds


@dataclass(frozen=True, slots=True)
class PartialTask:
    """A group to add in one round; travels in the header of the channel's open.

    ``epoch`` fences: what was kept under an older one counts for nothing.
    """

    job: str
    round_number: int
    epoch: int
    sites: tuple[str, ...]
    model: TensorRef
    rules: SumRules


@dataclass(frozen=True, slots=True)
class Take:
    """Pull a site's update and check it."""

    site: str
    attempt: int
    weight: float
    params_type: str
    update: TensorRef


@dataclass(frozen=True, slots=True)
class Taken:
    """A site's update is here, whole and admissible; nothing is added yet."""

    site: str


class Trouble(StrEnum):
    """Why an update could not be taken."""

    REFUSED = "refused"  # it is not admissible
    GONE = "gone"  # its site cannot be reached
    FAILED = "failed"  # it could not be pulled


@dataclass(frozen=True, slots=True)
class Untaken:
    """A site's update could not be taken."""

    site: str
    trouble: str
    problem: str


@dataclass(frozen=True, slots=True)
class Keep:
    """Add a site's update: it will be in the sum."""

    site: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Forget a site's update, which was not to be kept."""

    site: str


@dataclass(frozen=True, slots=True)
class Pass:
    """Pass on the sum of all that was to be kept."""


@dataclass(frozen=True, slots=True)
class Contributor:
    """One site in a sum."""

    site: str
    attempt: int
    weight: float


@dataclass(frozen=True, slots=True)
class PartialReady:
    """The sum is on offer until the channel ends."""

    epoch: int
    update: TensorRef
    contributors: tuple[Contributor, ...]


PartialMessage: TypeAlias = Take | Taken | Untaken | Keep | Drop | Pass | PartialReady
PARTIAL_TASK_SCHEMA: Schema[PartialTask] = Schema((1, PartialTask))
PARTIAL_SCHEMA: Schema[PartialMessage] = Schema(
    (1, Take), (2, Taken), (3, Untaken), (4, Keep), (5, Drop), (6, Pass), (7, PartialReady)
)
