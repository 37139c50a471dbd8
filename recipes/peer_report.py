"""How a site tells the server of a round that it has run: the records of the sites, as text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from flare_async.errors import RemoteProtocolError
from flare_async.jobs.history import finite
from flare_async.roles.outcome import SiteRecord, SiteStatus

__all__ = ["records_of", "report_of"]

REASON: Final = 200
STATUSES: Final = tuple(SiteStatus)
NUMBERS: Final = ("started", "ended", "train_seconds", "weight", "bytes_down", "bytes_up")


def report_of(records: Sequence[SiteRecord], most: int) -> str:
    """Return records as text of at most ``most`` bytes: metrics go first, then reasons.

    Times are seconds since the earliest of them.
    """
    origin = min((record.started for record in records), default=0.0)
    text = ""
    for metrics, reason in ((True, REASON), (False, REASON), (False, REASON // 8)):
        rows = [_row(record, origin, reason, metrics=metrics) for record in records]
        text = json.dumps(finite(rows), separators=(",", ":"))
        if len(text.encode()) <= most:
            return text
    rows = [[record.site, STATUSES.index(record.status)] for record in records]
    return json.dumps(rows, separators=(",", ":"))


def records_of(text: object, started: float, known: Sequence[str]) -> list[SiteRecord]:
    """Return the records in a report, with times from ``started`` on.

    Raises:
        RemoteProtocolError: it is no report, or one about sites that are not ``known``.
    """
    try:
        rows = json.loads(text) if isinstance(text, str) else None
        records = [_record(row, started) for row in _listed(rows)]
    except (ValueError, TypeError, IndexError, KeyError, RecursionError) as exc:
        raise RemoteProtocolError("bad_report", f"{type(exc).__name__}: {exc}") from exc
    names = [record.site for record in records]
    if not set(names) <= set(known) or len(set(names)) < len(names):
        raise RemoteProtocolError("bad_report", f"about {len(names)} sites of {len(known)}")
    return records


def _row(record: SiteRecord, origin: float, reason: int, *, metrics: bool) -> list[object]:
    numbers: list[float] = [getattr(record, name) for name in NUMBERS]
    numbers[:2] = [numbers[0] - origin, numbers[1] - origin]
    shown = dict(record.metrics) if metrics else {}
    status = STATUSES.index(record.status)
    return [record.site, status, numbers, shown, record.reason[:reason], record.code]


def _listed(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{type(value).__name__} where a list is needed")
    return value


def _record(given: object, started: float) -> SiteRecord:
    row = _listed(given)
    site, status = str(row[0]), STATUSES[int(row[1])]
    if len(row) == 2:
        return SiteRecord(site, status, started, started)
    began, ended, trained, weight, down, up = (float(value) for value in row[2])
    return SiteRecord(
        site=site,
        status=status,
        started=started + began,
        ended=started + ended,
        train_seconds=trained,
        weight=weight,
        metrics=_metrics(row[3]),
        reason=str(row[4]),
        bytes_down=int(down),
        bytes_up=int(up),
        code=str(row[5]),
    )


def _metrics(given: object) -> Mapping[str, float]:
    if not isinstance(given, dict):
        raise TypeError("metrics that are no object")
    return {str(key): float(value) for key, value in given.items() if value is not None}
