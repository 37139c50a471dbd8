"""Robust means, each written down plainly: whole arrays, no chunks, nothing of the package."""

from __future__ import annotations

import numpy as np

__all__ = ["krum_order", "median", "multi_krum", "trimmed_mean"]


def median(updates):
    """Return the median of each element, by sorting."""
    ordered = np.sort(np.stack(updates).astype(np.float64), axis=0)
    count = len(updates)
    return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2


def trimmed_mean(updates, beta):
    """Return what SciPy makes of it."""
    from scipy.stats import trim_mean

    return trim_mean(np.stack(updates).astype(np.float64), beta, axis=0)


def krum_order(vectors, f):
    """Return the places of the vectors from the least score on, equal ones in their order."""
    scores = []
    for i, mine in enumerate(vectors):
        apart = sorted(
            float(((mine.astype(np.float64) - other) ** 2).sum())
            for j, other in enumerate(vectors)
            if j != i
        )
        scores.append(sum(apart[: len(vectors) - f - 2]))
    return sorted(range(len(vectors)), key=lambda place: (scores[place], place))


def multi_krum(vectors, f, m):
    """Return the mean of the ``m`` vectors with the least scores."""
    return np.mean([vectors[place].astype(np.float64) for place in krum_order(vectors, f)[:m]], 0)
