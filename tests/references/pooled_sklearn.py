"""Logistic regression, k-means and an SVM of all sites' data in one place; no part of the package.

Small data sets that scikit-learn ships, dealt out to sites row by row.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

__all__ = [
    "FEATURES",
    "centers",
    "first_centers",
    "flowers",
    "local_step",
    "logistic",
    "newton",
    "support",
    "tumours",
]

FEATURES = 6
CLUSTERS = 3


@cache
def _tumours():
    samples, labels = load_breast_cancer(return_X_y=True)
    samples = samples[:240, :FEATURES]
    return (samples - samples.mean(axis=0)) / samples.std(axis=0), labels[:240]


def tumours(index, sites):
    """Return a site's samples and labels, 0 and 1."""
    samples, labels = _tumours()
    return samples[index::sites], labels[index::sites]


def flowers(index, sites):
    """Return a site's samples."""
    return load_iris().data[index::sites]


def together(parts):
    """Return the samples and labels of these sites, in their order."""
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


def logistic(parts, l2):
    """Return scikit-learn's weights, the intercept first."""
    model = LogisticRegression(C=1 / l2, solver="newton-cholesky", tol=1e-14, max_iter=500)
    model.fit(*together(parts))
    return np.concatenate([model.intercept_, model.coef_[0]])


def newton(parts, steps, damping, l2, epsilon):
    """Return the weights after some damped steps on all data, from zeros."""
    samples, labels = together(parts)
    columns = np.column_stack([np.ones(len(samples)), samples])
    weights = np.zeros(columns.shape[1])
    ridge = np.array([0.0] + [l2] * samples.shape[1])
    for _ in range(steps):
        odds = 1 / (1 + np.exp(-columns @ weights))
        slope = columns.T @ (labels - odds) - ridge * weights
        curve = (columns.T * (odds * (1 - odds))) @ columns + np.diag(ridge + epsilon)
        weights = weights + damping * (np.linalg.inv(curve) @ slope)
    return weights


def first_centers(samples, seed):
    """Return a site's own first centres: some of its samples, one more at odd sites."""
    rows = np.random.default_rng(seed).choice(len(samples), CLUSTERS + seed % 2, replace=False)
    return samples[rows]


def local_step(samples, center):
    """Return the means of the samples next to each centre, and how many there are."""
    near = np.argmin(((samples[:, None] - center[None]) ** 2).sum(axis=2), axis=1)
    count = np.bincount(near, minlength=len(center))
    sums = np.zeros_like(center)
    np.add.at(sums, near, samples)
    return np.where(count[:, None] > 0, sums / np.maximum(count, 1)[:, None], center), count


def centers(parts, rounds, seed):
    """Return the centres after some rounds: each the mean of every sample it was ever given."""
    pool = np.concatenate([first_centers(x, index) for index, x in parts])
    center = KMeans(CLUSTERS, random_state=seed).fit(pool).cluster_centers_
    totals, given = np.zeros_like(center), np.zeros(CLUSTERS)
    for _ in range(1, rounds):
        before = center
        for _, samples in parts:
            means, count = local_step(samples, before)
            totals, given = totals + means * count[:, None], given + count
        center = np.where(given[:, None] > 0, totals / np.maximum(given, 1)[:, None], center)
    return center


def support(parts, kernel):
    """Return the support vectors of the sites' support vectors, and their labels."""
    own = [SVC(kernel=kernel).fit(x, y).support_ for x, y in parts]
    samples, labels = together([(x[at], y[at]) for (x, y), at in zip(parts, own, strict=True)])
    found = SVC(kernel=kernel).fit(samples, labels).support_
    return samples[found], labels[found]
