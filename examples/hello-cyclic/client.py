"""The training script of a site: some epochs of softmax regression on its share of the digits."""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.datasets import load_digits

import flare_async.client as flare
from flare_async.client import FLModel

__all__ = ["main"]


def scores(params: dict[str, np.ndarray], pictures: np.ndarray) -> np.ndarray:
    """Return the probabilities of the classes."""
    logits = pictures @ params["weights"] + params["bias"]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def main() -> None:
    """Take part in the job, a turn after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n_clients", type=int, required=True)
    parser.add_argument("--epochs", type=int, default=10)
    args = parser.parse_args()

    flare.init()
    place = int(flare.get_site_name().rpartition("-")[2]) - 1
    pictures, labels = load_digits(return_X_y=True)
    own = slice(place, None, args.n_clients)
    pictures, labels = pictures[own] / 16, np.eye(10)[labels[own]]

    while flare.is_running():
        params = flare.receive().params
        right = scores(params, pictures).argmax(axis=1) == labels.argmax(axis=1)
        for _ in range(args.epochs):
            slope = (scores(params, pictures) - labels) / len(labels)
            params["weights"] -= 2.0 * pictures.T @ slope
            params["bias"] -= 2.0 * slope.sum(axis=0)
        flare.send(FLModel(params=params, metrics={"accuracy": right.mean()}))


if __name__ == "__main__":
    main()
