"""The training script of a site: first centres, then means of its samples."""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.cluster import MiniBatchKMeans, kmeans_plusplus
from sklearn.datasets import load_iris
from sklearn.metrics import homogeneity_score

import flare_async.client as flare
from flare_async.client import FLModel

__all__ = ["main"]


def nearest(samples: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Return the number of each sample's nearest centre."""
    return ((samples[:, None] - center[None]) ** 2).sum(axis=2).argmin(axis=1)


def main() -> None:
    """Take part in the job, a round after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n_clients", type=int, default=2)
    args = parser.parse_args()

    flare.init()
    site = int(flare.get_site_name().removeprefix("site-")) - 1
    flowers, kinds = load_iris(return_X_y=True)
    samples, labels = flowers[site :: args.n_clients], kinds[site :: args.n_clients]
    while flare.is_running():
        input_model = flare.receive()
        params, metrics = input_model.params, {}
        if input_model.current_round == 0:
            center, _ = kmeans_plusplus(samples, int(params["n_clusters"]), random_state=site)
            result = {"center": center}
        else:
            center = params["center"]
            metrics["homogeneity"] = homogeneity_score(labels, nearest(samples, center))
            model = MiniBatchKMeans(len(center), init=center, n_init=1, random_state=site)
            model.fit(samples)
            count = np.bincount(model.labels_, minlength=len(center))
            result = {"center": model.cluster_centers_, "count": count}
        print(f"round {input_model.current_round}: {metrics}")
        meta = {"NUM_STEPS_CURRENT_ROUND": len(samples)}
        flare.send(FLModel(params=result, metrics=metrics, meta=meta))


if __name__ == "__main__":
    main()
