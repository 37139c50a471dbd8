"""The training script of a site: its support vectors, then a look at those of all."""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.svm import SVC

import flare_async.client as flare
from flare_async.client import FLModel

__all__ = ["main"]

Array = np.ndarray


def data_of(site: int, sites: int) -> tuple[Array, Array, Array, Array]:
    """Return a site's samples and labels, and those that are held out."""
    samples, labels = load_breast_cancer(return_X_y=True)
    samples = (samples - samples.mean(axis=0)) / samples.std(axis=0)
    own = slice(169 + site, None, sites)
    return samples[own], labels[own], samples[:169], labels[:169]


def main() -> None:
    """Take part in the job, a round after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n_clients", type=int, default=2)
    args = parser.parse_args()

    flare.init()
    site = int(flare.get_site_name().removeprefix("site-")) - 1
    samples, labels, held_out, expected = data_of(site, args.n_clients)
    while flare.is_running():
        input_model = flare.receive()
        params, metrics = input_model.params, {}
        if input_model.current_round == 0:
            found = SVC(kernel=params["kernel"]).fit(samples, labels).support_
            params = {"support_x": samples[found], "support_y": labels[found]}
        else:
            model = SVC(kernel=params["kernel"]).fit(params["support_x"], params["support_y"])
            metrics["AUC"] = roc_auc_score(expected, model.decision_function(held_out))
        print(f"round {input_model.current_round}: {metrics}")
        meta = {"NUM_STEPS_CURRENT_ROUND": len(labels)}
        flare.send(FLModel(params=params, metrics=metrics, meta=meta))


if __name__ == "__main__":
    main()
