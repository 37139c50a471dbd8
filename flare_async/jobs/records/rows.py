"""What the sites of a run have logged: a row a record, and the latest of them in memory."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from flare_async.jobs.history import dumps
from flare_async.jobs.records.weight import weight
from flare_async.limits import MIB
from flare_async.roles.log_messages import Logged
from flare_async.roles.log_record import LogValue

__all__ = ["KEPT_BYTES", "MetricRow", "RunMetrics"]

KEPT_BYTES: Final = 32 * MIB  # of rows in memory: some 80,000 numbers
Numbers: TypeAlias = dict[str, float]


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One record of a site. ``at`` is in seconds of the run, rounds count from 0.

    ``kind`` is a value of ``AnalyticsDataType``; ``step`` is the writer's own count, if any.
    """

    at: float
    site: str
    round_number: int
    key: str
    value: LogValue
    kind: str
    step: int | None = None
    extra: Mapping[str, LogValue] = field(default_factory=dict)

    @classmethod
    def of(cls, logged: Logged, origin: float) -> MetricRow:
        """Return the row of a record for a run that began at ``origin``."""
        record, at = logged.record, max(0.0, logged.at - origin)
        return cls(
            at=at,
            site=logged.site,
            round_number=logged.round_number,
            key=sys.intern(record.key),  # a run has few keys and many rows
            value=record.value,
            kind=sys.intern(record.kind),
            step=record.step,
            extra=record.extra,
        )

    def row(self) -> dict[str, object]:
        """Return the row as plain values, as in ``metrics.jsonl``."""
        found: dict[str, object] = {
            "at_s": round(self.at, 6),
            "site": self.site,
            "round": self.round_number,
            "key": self.key,
            "value": self.value,
            "kind": self.kind,
            "step": self.step,
        }
        return {**found, "extra": dict(self.extra)} if self.extra else found

    def line(self) -> bytes:
        """Return the row as a line of ``metrics.jsonl``."""
        return dumps(self.row()).encode() + b"\n"

    def numbers(self) -> Numbers:
        """Return its numbers by name; those of a mapping are called ``key/name``."""
        value = self.value
        if isinstance(value, Mapping):
            named = {f"{self.key}/{name}": item for name, item in value.items()}
        else:
            named = {self.key: value}
        return {
            name: float(item)
            for name, item in named.items()
            if isinstance(item, int | float) and not isinstance(item, bool)
        }


class RunMetrics:
    """The latest rows of a run, up to ``nbytes`` of them; ``metrics.jsonl`` has all.

    ``dropped`` counts, by site, the records that found no room on their way.
    """

    def __init__(self, nbytes: int = KEPT_BYTES) -> None:
        self.dropped: dict[str, int] = {}
        self.total = 0
        self._room = nbytes
        self._nbytes = 0
        self._rows: deque[tuple[MetricRow, int]] = deque()

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"<RunMetrics: {self.total} records, {len(self._rows)} in memory>"

    def add(self, row: MetricRow) -> None:
        """Keep a row; the oldest go when there is no room."""
        self.total += 1
        nbytes = weight(row.key, row.value, row.extra)
        self._rows.append((row, nbytes))
        self._nbytes += nbytes
        while self._nbytes > self._room and len(self._rows) > 1:
            self._nbytes -= self._rows.popleft()[1]

    @property
    def rows(self) -> tuple[MetricRow, ...]:
        """The rows in the order in which they came."""
        return tuple(row for row, _ in self._rows)

    def of(self, key: str, site: str | None = None) -> list[MetricRow]:
        """Return the rows of a key, of one site or of all."""
        return [
            row for row, _ in self._rows if row.key == key and (site is None or row.site == site)
        ]

    def latest(self, key: str) -> dict[str, float]:
        """Return each site's last number of a key; a mapping's are called ``key/name``."""
        found: dict[str, float] = {}
        for row, _ in self._rows:
            numbers = row.numbers()
            if key in numbers:
                found[row.site] = numbers[key]
        return found
