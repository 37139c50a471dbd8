"""Metrics of many sites as one number, and which of two is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

__all__ = ["Better", "MetricMean", "by_key"]

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
        """Take a site's metrics; one with a weight of 0 has measured nothing."""
        if metrics and weight > 0:
            self._sites[site] = (metrics, weight)

    def mean(self, order: Sequence[str]) -> dict[str, float]:
        """Return the means; a metric that some of the adding sites lack is left out."""
        present = [self._sites[site] for site in order if site in self._sites]
        if not present:
            return {}
        names = [name for name in present[0][0] if all(name in metrics for metrics, _ in present)]
        total = sum(weight for _, weight in present)
        return {
            name: sum(metrics[name] * weight for metrics, weight in present) / total
            for name in names
        }
