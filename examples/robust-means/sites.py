"""What a site does: a linear fit of the diabetes data; some sites send nonsense."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_diabetes

from flare_async import FLModel
from flare_async.jobs.site import Site

__all__ = ["FEATURES", "evaluate", "train"]

FEATURES = 10


def data(site: Site) -> tuple[np.ndarray, np.ndarray]:
    """Return the site's rows, read once; the target in units of its own deviation."""
    if "data" not in site.state:
        rows, target = load_diabetes(return_X_y=True)
        own = slice(site.index, None, site.num_sites)
        target = (target - target.mean()) / target.std()
        site.state["data"] = rows[own] / rows.std(), target[own]
    return site.state["data"]


def evaluate(model: FLModel, site: Site) -> dict[str, float]:
    """Return the mean square error of the received model on the site's rows."""
    rows, target = data(site)
    wrong = rows @ model.params["weights"] - target
    return {"mse": float(np.mean(wrong**2)), "num_examples": float(len(target))}


def train(model: FLModel, site: Site) -> FLModel:
    """Descend twenty steps; who lies turns the result around and enlarges it."""
    rows, target = data(site)
    weights = model.params["weights"].astype(np.float64)
    for _ in range(20):
        weights -= 0.1 * rows.T @ (rows @ weights - target) / len(target)
    if site.config.get("lies"):
        weights = -1e4 * weights
    return FLModel(params={"weights": weights.astype(np.float32)})
