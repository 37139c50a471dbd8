"""What an environment decides about a job's rounds, and how one is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flare_async.jobs.events import Observer
from flare_async.roles.outcome import SiteRecord

__all__ = ["CohortSetting", "Recording", "shifted"]


@dataclass(frozen=True, slots=True)
class CohortSetting:
    """What an environment decides about a job's rounds.

    ``window`` is how many sites may hold a task ahead of the first unsettled one; ``keep_until``
    is the receipt after which sites let go of an update, and write nothing over it all the same:
    over ``memory`` it may be added later from where it is.
    """

    seed: int
    window: int | None
    keep_until: str
    observer: Observer


@dataclass(slots=True)
class Recording:
    """A round that goes on: when it started, in seconds of the run, and its metrics so far.

    ``aggregator`` is the site that runs it, where that is not the server.
    """

    started: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    aggregator: str = ""


def shifted(record: SiteRecord, origin: float) -> SiteRecord:
    """Return a record in seconds since ``origin``."""
    return SiteRecord(
        record.site,
        record.status,
        record.started - origin,
        record.ended - origin,
        record.train_seconds,
        record.weight,
        record.metrics,
        record.reason,
        record.bytes_down,
        record.bytes_up,
        record.code,
    )
