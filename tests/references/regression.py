"""Least squares at several sites: their data, losses and gradients, in NumPy."""

from __future__ import annotations

import numpy as np

WIDTH = 3
STEPS = 4
RATE = 0.1


def data(site):
    """Return a site's rows and targets; sites have other slopes and other numbers of rows."""
    rng = np.random.default_rng([11, site])
    rows = rng.normal(size=(12 + 5 * site, WIDTH))
    slopes = np.array([1.0, -2.0, 0.5]) + 0.7 * site * np.array([1.0, 0.0, -1.0])
    return rows, rows @ slopes + 0.1 * rng.normal(size=len(rows))


def loss(weights, site):
    """Return half the mean square of a site's errors."""
    rows, targets = data(site)
    return float(np.mean((rows @ weights - targets) ** 2) / 2)


def gradient(weights, site):
    """Return the gradient of ``loss``."""
    rows, targets = data(site)
    return rows.T @ (rows @ weights - targets) / len(rows)


def descend(weights, site, *, steps=STEPS, extra=None):
    """Return where ``steps`` of gradient descent lead; ``extra(w)`` is added to the gradient."""
    here = np.array(weights, dtype=np.float64)
    for _ in range(steps):
        here = here - RATE * (gradient(here, site) + (0.0 if extra is None else extra(here)))
    return here
