"""The training script of a site: gradient and Hessian of its samples."""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.datasets import load_breast_cancer

import flare_async.client as flare
from flare_async.client import FLModel, NPConstants

__all__ = ["main"]


def data_of(site: int, sites: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a site's measurements, a column of ones before them, and its labels."""
    samples, labels = load_breast_cancer(return_X_y=True)
    samples = (samples - samples.mean(axis=0)) / samples.std(axis=0)
    columns = np.column_stack([np.ones(len(samples)), samples])
    return columns[site::sites], labels[site::sites, None]


def main() -> None:
    """Take part in the job, a round after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n_clients", type=int, default=2)
    args = parser.parse_args()

    flare.init()
    site = int(flare.get_site_name().removeprefix("site-")) - 1
    columns, labels = data_of(site, args.n_clients)
    while flare.is_running():
        input_model = flare.receive()
        weights = input_model.params[NPConstants.NUMPY_KEY]
        odds = 1 / (1 + np.exp(-columns @ weights))
        accuracy = float(np.mean((odds > 0.5) == labels))
        print(f"round {input_model.current_round}: accuracy {accuracy:.3f}")
        flare.send(
            FLModel(
                params={
                    "gradient": columns.T @ (labels - odds),
                    "hessian": columns.T @ (columns * odds * (1 - odds)),
                },
                metrics={"accuracy": accuracy},
                meta={"NUM_STEPS_CURRENT_ROUND": len(labels)},
            )
        )


if __name__ == "__main__":
    main()
