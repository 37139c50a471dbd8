"""How a site's part of a round ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from operator import attrgetter

__all__ = ["SiteRecord", "SiteStatus"]


class SiteStatus(StrEnum):
    """How a site's part of a round ended."""

    OK = "ok"  # its update is in the aggregate
    FAILED = "failed"  # user code raised, or the link was lost
    REFUSED = "refused"  # its update failed admission
    LATE = "late"  # the round closed before its update arrived


@dataclass(frozen=True, slots=True)
class SiteRecord:
    """One site in one round; ``started`` and ``ended`` are seconds since the run began.

    Where it failed, ``reason`` says why and ``code`` is the error's, such as ``trainer_idle``.
    """

    site: str
    status: SiteStatus
    started: float
    ended: float
    train_seconds: float = 0.0
    weight: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    bytes_down: int = 0
    bytes_up: int = 0
    code: str = ""

    def row(self) -> dict[str, object]:
        """Return the record as a flat row; a run has one for each of its tasks, so it is quick."""
        return dict(zip(self.__slots__, _values(self), strict=True))


_values = attrgetter(*SiteRecord.__slots__)
