"""What server and site say to each other before a job's first round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from flare_async.wire.schema import Schema

__all__ = [
    "NOTICE_SCHEMA",
    "START_SCHEMA",
    "START_TOPIC",
    "Acknowledged",
    "Begin",
    "Declined",
    "JobNotice",
    "StartMessage",
]

START_TOPIC = "start"


@dataclass(frozen=True, slots=True)
class JobNotice:
    """A job that a site shall get ready for; travels in the header of the channel's open."""

    job: str
    recipe: str
    rounds: int
    sites: int

    def lacks(self) -> str:
        """Return the name of the first field without a usable value, or nothing."""
        for name in ("job", "recipe"):
            if not getattr(self, name):
                return name
        return next((name for name in ("rounds", "sites") if getattr(self, name) < 1), "")


@dataclass(frozen=True, slots=True)
class Begin:
    """Everybody who takes part has the job: start it."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The site has done what it was last asked for."""


@dataclass(frozen=True, slots=True)
class Declined:
    """The site cannot take part."""

    problem: str


StartMessage: TypeAlias = Begin | Acknowledged | Declined
NOTICE_SCHEMA: Schema[JobNotice] = Schema((1, JobNotice))
START_SCHEMA: Schema[StartMessage] = Schema((1, Begin), (2, Acknowledged), (3, Declined))
