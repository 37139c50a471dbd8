"""What a site does: softmax regression on its share of the digits, some slower than others."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from flare_async import FLModel
from flare_async.jobs.site import Site

__all__ = ["CLASSES", "FEATURES", "evaluate", "train"]

FEATURES, CLASSES = 64, 10


def data(site: Site) -> tuple[np.ndarray, np.ndarray]:
    """Return the site's pictures and one-hot labels, read once."""
    if "data" not in site.state:
        pictures, labels = load_digits(return_X_y=True)
        own = slice(site.index, None, site.num_sites)
        site.state["data"] = pictures[own] / 16, np.eye(CLASSES)[labels[own]]
    return site.state["data"]


def scores(model: FLModel, pictures: np.ndarray) -> np.ndarray:
    """Return the probabilities of the classes."""
    logits = pictures @ model.params["weights"] + model.params["bias"]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def evaluate(model: FLModel, site: Site) -> dict[str, float]:
    """Return the accuracy of the received model on the site's pictures."""
    pictures, labels = data(site)
    right = scores(model, pictures).argmax(axis=1) == labels.argmax(axis=1)
    return {"accuracy": float(right.mean()), "num_examples": float(len(right))}


def train(model: FLModel, site: Site) -> FLModel:
    """Descend; a site with ``epochs`` of its own takes longer, and its update is older."""
    pictures, labels = data(site)
    for _ in range(int(site.config["epochs"])):
        slope = (scores(model, pictures) - labels) / len(labels)
        model.params["weights"] -= 2.0 * pictures.T @ slope
        model.params["bias"] -= 2.0 * slope.sum(axis=0)
    return FLModel(params=model.params)
