"""The evaluation script of a site: how a linear classifier does on its share of the samples."""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.datasets import load_breast_cancer

import flare_async.client as flare
from flare_async.client import FLModel

__all__ = ["main"]


def main() -> None:
    """Answer with metrics as often as the server asks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n_clients", type=int, required=True)
    args = parser.parse_args()

    flare.init()
    place = int(flare.get_site_name().rpartition("-")[2]) - 1
    samples, labels = load_breast_cancer(return_X_y=True)
    samples, labels = samples[place :: args.n_clients], labels[place :: args.n_clients]

    while flare.is_running():
        params = flare.receive().params
        if flare.is_evaluate():
            scaled = (samples - params["mean"]) / params["scale"]
            said = scaled @ params["coef"] + params["intercept"] > 0
            metrics = {"accuracy": np.mean(said == labels), "num_examples": len(labels)}
            flare.send(FLModel(metrics=metrics))


if __name__ == "__main__":
    main()
