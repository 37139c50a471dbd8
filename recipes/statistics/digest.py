"""A t-digest as it travels: centroids, each a mean and how many values it stands for.

Dunning and Ertl, "Computing Extremely Accurate Quantiles Using t-Digests", arXiv:1902.04023. The
library ``fastdigest`` builds and merges them (the extra ``stats``). With at most d centroids the
rank of an estimated quantile is wrong by no more than about pi * sqrt(q * (1 - q)) / d, and by
half of a centroid's weight where centroids were made coarser for privacy. Between two neighbouring
values it is interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flare_async.errors import MissingExtra

if TYPE_CHECKING:
    from fastdigest import TDigest

__all__ = ["Digest", "check_library"]


@dataclass(frozen=True, slots=True)
class Digest:
    """Centroids in ascending order.

    Raises:
        ValueError: means and weights do not fit each other, are not finite or not ascending.
    """

    means: tuple[float, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.means) != len(self.weights):
            raise ValueError(f"{len(self.means)} means and {len(self.weights)} weights")
        if not all(math.isfinite(mean) for mean in self.means):
            raise ValueError("a centroid's mean is not finite")
        if not all(0 < weight < math.inf for weight in self.weights):
            raise ValueError("a centroid's weight is not a finite number above 0")
        if any(after < before for before, after in zip(self.means, self.means[1:], strict=False)):
            raise ValueError("the centroids are not in ascending order")

    @classmethod
    def of(cls, values: Iterable[float], max_centroids: int = 200) -> Digest:
        """Return the digest of values, all of them finite.

        Raises:
            MissingExtra: fastdigest is not installed.
        """
        given = [float(value) for value in values]
        return cls._of(given, [1.0] * len(given), max_centroids)

    @classmethod
    def merged(cls, digests: Sequence[Digest], max_centroids: int = 200) -> Digest:
        """Return one digest of everything that ``digests`` stand for.

        Raises:
            MissingExtra: fastdigest is not installed.
        """
        means = [mean for digest in digests for mean in digest.means]
        weights = [weight for digest in digests for weight in digest.weights]
        return cls._of(means, weights, max_centroids)

    @classmethod
    def _of(cls, means: list[float], weights: list[float], max_centroids: int) -> Digest:
        if not means:
            return cls((), ())
        pairs = built(means, weights, max_centroids).centroids
        ordered = sorted((float(mean), float(weight)) for mean, weight in pairs)
        return cls(tuple(mean for mean, _ in ordered), tuple(weight for _, weight in ordered))

    @property
    def mass(self) -> float:
        """How many values it stands for."""
        return math.fsum(self.weights)

    def quantile(self, q: float) -> float | None:
        """Return the value below which a share ``q`` of all values is; None without values.

        Raises:
            MissingExtra: fastdigest is not installed.
        """
        if not self.means:
            return None
        digest = built(list(self.means), list(self.weights), max(2, len(self.means)))
        return float(digest.quantile(q))

    def coarsened(self, least: float, most: int) -> Digest:
        """Return at most ``most`` centroids that stand for ``least`` values each, or none.

        The outermost centroids of a t-digest are single values: the smallest and the largest. Only
        neighbours that are too few are merged, so the ends stay as fine as they may be.

        Raises:
            MissingExtra: there are more than ``most``, and fastdigest is not installed.
        """
        fine = self if len(self.means) <= most else Digest.merged([self], most)
        groups: list[list[tuple[float, float]]] = [[]]
        for pair in zip(fine.means, fine.weights, strict=True):
            if groups[-1] and mass_of(groups[-1]) >= least:
                groups.append([])
            groups[-1].append(pair)
        if len(groups) > 1 and mass_of(groups[-1]) < least:
            rest = groups.pop()
            groups[-1] += rest
        if mass_of(groups[0]) < least or not groups[0]:
            return Digest((), ())
        weights = [mass_of(group) for group in groups]
        sums = [math.fsum(mean * weight for mean, weight in group) for group in groups]
        means = [total / weight for total, weight in zip(sums, weights, strict=True)]
        # Rounding must not put a mean of equal values before its neighbour's.
        return Digest(tuple(sorted(means)), tuple(weights))


def check_library() -> None:
    """Do nothing where digests can be made. Raises MissingExtra."""
    built([0.0], [1.0], 2)


def mass_of(group: Sequence[tuple[float, float]]) -> float:
    """Return how many values some centroids stand for."""
    return math.fsum(weight for _, weight in group)


def built(means: list[float], weights: list[float], max_centroids: int) -> TDigest:
    """Return the library's digest. Raises MissingExtra."""
    try:
        from fastdigest import TDigest
    except ImportError as exc:
        raise MissingExtra("fastdigest", "stats") from exc
    return TDigest.from_values(means, w=weights, max_centroids=max_centroids)
