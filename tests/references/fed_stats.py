"""Statistics of pooled data, by NumPy alone: what federated statistics must equal."""

from __future__ import annotations

import numpy as np


def pooled(parts):
    """Return the statistics of all parts together; what is not finite is a failure."""
    rows = np.concatenate([np.asarray(part, dtype=float) for part in parts])
    values = rows[np.isfinite(rows)]
    found = {"count": len(values), "failure_count": len(rows) - len(values)}
    if len(values):
        found |= {"sum": values.sum(), "mean": values.mean()}
        found |= {"min": values.min(), "max": values.max()}
    if len(values) > 1:
        found |= {"var": values.var(ddof=1), "stddev": values.std(ddof=1)}
    return found


def counts(parts, bins, low, high):
    """Return how many values of all parts are in each bin."""
    rows = np.concatenate([np.asarray(part, dtype=float) for part in parts])
    return np.histogram(rows[np.isfinite(rows)], bins=bins, range=(low, high))[0].tolist()


def rank_error(parts, share, value):
    """Return how far the rank of an estimated quantile is from the share, as a part of 1.

    Between two neighbouring values it may stand for either of them.
    """
    rows = np.sort(np.concatenate([np.asarray(part, dtype=float) for part in parts]))
    low, high = np.searchsorted(rows, value, "left"), np.searchsorted(rows, value, "right")
    if low == high:
        low = np.searchsorted(rows, rows[max(0, low - 1)], "left")
        high = np.searchsorted(rows, rows[min(high, len(rows) - 1)], "right")
    return max(0.0, low / len(rows) - share, share - high / len(rows))
