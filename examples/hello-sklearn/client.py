"""The training script of a site: a linear classifier of digits, fitted by scikit-learn."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier

import flare_async.client as flare
from flare_async.client import FLModel

__all__ = ["main"]

HELD_OUT = 297  # of 1797 pictures, to judge the model with; the others are shared out


def data_of(site: int, sites: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return a site's pictures and labels, and those that are held out."""
    pictures, labels = load_digits(return_X_y=True)
    pictures = pictures / 16.0
    own = slice(HELD_OUT + site, None, sites)
    return pictures[own], labels[own], pictures[:HELD_OUT], labels[:HELD_OUT]


def classifier(params: dict[str, Any], seed: int) -> SGDClassifier:
    """Return a classifier that goes on from these coefficients, with the recipe's parameters."""
    settled = {name: params[name] for name in ("loss", "learning_rate", "eta0")}
    model = SGDClassifier(random_state=seed, **settled)
    model.classes_ = np.arange(params["n_classes"])
    model.coef_, model.intercept_ = params["coef"], params["intercept"]
    return model


def main() -> None:
    """Take part in the job, a round after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n_clients", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=1)
    args = parser.parse_args()

    flare.init()
    site = int(flare.get_site_name().removeprefix("site-")) - 1
    pictures, labels, held_out, expected = data_of(site, args.n_clients)
    while flare.is_running():
        input_model = flare.receive()
        # What a site draws depends on site and round only, so a run can be repeated.
        model = classifier(input_model.params, seed=1000 * site + input_model.current_round)
        accuracy = model.score(held_out, expected)  # of the model as it came
        print(f"round {input_model.current_round}: accuracy {accuracy:.3f}")

        for _ in range(args.epochs):
            model.partial_fit(pictures, labels)
        flare.send(
            FLModel(
                params={"coef": model.coef_, "intercept": model.intercept_},
                metrics={"accuracy": accuracy},
                meta={"NUM_STEPS_CURRENT_ROUND": len(labels)},
            )
        )


if __name__ == "__main__":
    main()
