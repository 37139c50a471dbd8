"""What each site did over a whole run, one row a site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from flare_async.jobs.history import History, SiteRecord, SiteStatus

__all__ = ["SiteTally", "tally"]


@dataclass(frozen=True, slots=True)
class SiteTally:
    """One site's rounds put together; ``share`` is its part of the last round's weight."""

    site: str
    completed: int
    failed: int
    late: int
    weight: float = 0.0
    share: float = 0.0
    train_seconds: float = 0.0  # the mean over its completed rounds of training
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    bytes_down: int = 0
    bytes_up: int = 0


def tally(history: History) -> list[SiteTally]:
    """Return a row a site, in the order in which the sites first appear."""
    records: dict[str, list[SiteRecord]] = {}
    for record in history.rounds:
        if record.task == "train":
            for site in record.sites:
                records.setdefault(site.site, []).append(site)
    shares = _shares(history)
    return [_row(site, rows, shares.get(site, 0.0)) for site, rows in records.items()]


def _shares(history: History) -> dict[str, float]:
    rounds = [record for record in history.rounds if record.task == "train" and record.arrived]
    last = rounds[-1].sites if rounds else ()
    weights = {site.site: site.weight for site in last if site.status is SiteStatus.OK}
    total = sum(weights.values()) or 1.0
    return {site: weight / total for site, weight in weights.items()}


def _row(site: str, records: Sequence[SiteRecord], share: float) -> SiteTally:
    good = [record for record in records if record.status is SiteStatus.OK]
    late = sum(record.status is SiteStatus.LATE for record in records)
    reasons = [record.reason for record in records if record.reason]
    return SiteTally(
        site=site,
        completed=len(good),
        failed=len(records) - len(good) - late,
        late=late,
        weight=good[-1].weight if good else 0.0,
        share=share,
        train_seconds=fmean(record.train_seconds for record in good) if good else 0.0,
        metrics=dict(good[-1].metrics) if good else {},
        reason=reasons[-1] if reasons else "",
        bytes_down=sum(record.bytes_down for record in records),
        bytes_up=sum(record.bytes_up for record in records),
    )
