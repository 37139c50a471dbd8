"""What a server and a relay that adds say to each other about the sum of one group of sites."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    "Added",
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
    "Underway",
    "Untaken",
    "ready_messages",
]

PARTIAL_TOPIC = "partial"
REDUCES = b"reduce"  # the header of a routes channel whose relay adds
A_MESSAGE = 256  # contributors that are told of at a time


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
class Added:
    """Some of the sites in a sum; ``PartialReady`` has the last of them."""

    contributors: tuple[Contributor, ...]


@dataclass(frozen=True, slots=True)
class Underway:
    """A sum that was asked for is being made: what it waits for moves."""


@dataclass(frozen=True, slots=True)
class PartialReady:
    """The sum is on offer until the channel ends."""

    epoch: int
    update: TensorRef
    contributors: tuple[Contributor, ...]


PartialMessage: TypeAlias = (
    Take | Taken | Untaken | Keep | Drop | Pass | Added | Underway | PartialReady
)
PARTIAL_TASK_SCHEMA: Schema[PartialTask] = Schema((1, PartialTask))
PARTIAL_SCHEMA: Schema[PartialMessage] = Schema(
    (1, Take),
    (2, Taken),
    (3, Untaken),
    (4, Keep),
    (5, Drop),
    (6, Pass),
    (7, PartialReady),
    (8, Added),
    (9, Underway),
)


def ready_messages(
    epoch: int, update: TensorRef, contributors: Sequence[Contributor]
) -> Iterator[Added | PartialReady]:
    """Yield what tells a parent of a sum, in messages that are not too long."""
    last = (len(contributors) - 1) // A_MESSAGE * A_MESSAGE
    for at in range(0, last, A_MESSAGE):
        yield Added(tuple(contributors[at : at + A_MESSAGE]))
    yield PartialReady(epoch, update, tuple(contributors[last:]))
