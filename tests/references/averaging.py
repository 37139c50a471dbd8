"""Least squares over all rows of all sites: what federated averaging must give, in NumPy alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Rows", "alike_sites", "pooled_descent", "pooled_solution", "sites_of"]


@dataclass(frozen=True)
class Rows:
    """The rows of one site: ``x`` times the weights should be ``y``."""

    x: np.ndarray
    y: np.ndarray


def sites_of(sizes, features=4, seed=3):
    """Return sites of these sizes, each around weights of its own."""
    rng = np.random.default_rng(seed)
    sites = []
    for size in sizes:
        x = rng.normal(size=(size, features))
        y = x @ rng.normal(size=features) + 0.1 * rng.normal(size=size)
        sites.append(Rows(x, y))
    return sites


def alike_sites(sizes, features=4, seed=5):
    """Return sites whose second moments are the same: x^T x is the number of rows times one."""
    rng = np.random.default_rng(seed)
    sites = []
    for size in sizes:
        orthogonal, _ = np.linalg.qr(rng.normal(size=(size, features)))
        sites.append(Rows(np.sqrt(size) * orthogonal, rng.normal(size=size)))
    return sites


def pooled_descent(sites, factors, steps, rate):
    """Return the weights after so many gradient steps on the mean loss of all rows.

    A row of a site counts ``factor`` times.
    """
    x = np.concatenate([site.x for site in sites])
    y = np.concatenate([site.y for site in sites])
    counts = np.concatenate(
        [np.full(len(site.y), factor) for site, factor in zip(sites, factors, strict=True)]
    )
    w = np.zeros(x.shape[1])
    for _ in range(steps):
        w -= rate * (x.T @ (counts * (x @ w - y))) / counts.sum()
    return w


def pooled_solution(sites):
    """Return the least squares solution over all rows."""
    x = np.concatenate([site.x for site in sites])
    y = np.concatenate([site.y for site in sites])
    return np.linalg.lstsq(x, y, rcond=None)[0]
