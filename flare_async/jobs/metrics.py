"""Metrics of many sites as one number, and which of two is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

__all__ = ["Better", "MetricMean", "by_key"]

MAX_WEIGHT = 2.0**53  # as for updates

Better: TypeAlias = Callable[[Mapping[str, float], Mapping[str, float] | None], bool]


def by_key(key: str, *, lower: bool = False) -> Better:
    """Return a comparison: is ``key`` strictly higher (or lower) than in the best so far?

    What lacks the key, or has no number there, is never better.
    """

    def better(metrics: Mapping[str, float], best: Mapping[str, float] | None) -> bool:
        value = metrics.get(key, math.nan)
        if math.isnan(value):
            return False
        if best is None or math.isnan(best.get(key, math.nan)):
            return True
        return value < best[key] if lower else value > best[key]

    return better


class MetricMean:
    """The weighted mean of each metric, over the sites that sent it.

    Sites are added as they come and summed in the order that ``mean`` is given, so that the
    order of arrival changes no bit.
    """

    def __init__(self) -> None:
        self._sites: dict[str, tuple[Mapping[str, float], float]] = {}

    def add(self, site: str, metrics: Mapping[str, float], weight: float) -> None:
        """Take a site's metrics, as far as they are finite.

        A weight that is not above 0 and up to 2**53 has measured nothing: one site must not turn
        everybody's mean into NaN, or be all that counts.
        """
        if not metrics:
            return
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        if finite and 0 < weight <= MAX_WEIGHT:
            self._sites[site] = (finite, weight)

    def mean(self, order: Sequence[str]) -> dict[str, float]:
        """Return the mean of each metric over the sites that sent a number for it."""
        sums: dict[str, list[float]] = {}
        for metrics, weight in (self._sites[site] for site in order if site in self._sites):
            for name, value in metrics.items():
                total = sums.setdefault(name, [0.0, 0.0])
                total[0] += value * weight
                total[1] += weight
        return {name: total / weight for name, (total, weight) in sums.items()}
