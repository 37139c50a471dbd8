"""The x-axis of records that came without a step: their count, by site and key."""

from __future__ import annotations

from collections import Counter
from typing import Final

from flare_async.jobs.records.rows import MetricRow

__all__ = ["Steps"]


MOST_SERIES: Final = 100_000  # that are counted; a site may name as many as it likes


class Steps:
    """Gives every row a step: its own, or how many rows of its key the site has had.

    Beyond ``MOST_SERIES`` of them it is the round.
    """

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: Counter[tuple[str, str]] = Counter()

    def of(self, row: MetricRow) -> int:
        """Return the step of the next row of its key."""
        if row.step is not None:
            return row.step
        key = (row.site, row.key)
        if key not in self._seen and len(self._seen) >= MOST_SERIES:
            return row.round_number
        self._seen[key] += 1
        return self._seen[key] - 1
