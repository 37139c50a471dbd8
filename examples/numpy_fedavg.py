"""Federated averaging with NumPy: four sites fit one logistic regression to data of their own."""

from __future__ import annotations

import numpy as np

from flare_async import FLModel, Run, SimEnv
from flare_async.jobs.site import Site
from flare_async.recipes import FedAvgRecipe

__all__ = ["main", "recipe"]

TRUE_WEIGHTS = np.array([2.0, -1.0, 0.5])
STEPS = 50


def data_of(site: Site) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of one site; each site has its own centre, so no two are alike."""
    if "data" not in site.state:  # kept from round to round
        draw = np.random.default_rng((site.seed, site.index))
        points = draw.normal(loc=site.index - 1.5, size=(200, 3))
        site.state["data"] = points, (points @ TRUE_WEIGHTS > 0).astype(np.float64)
    return site.state["data"]


def evaluate(model: FLModel, site: Site) -> dict[str, float]:
    """Return the accuracy of the received model on this site's points."""
    points, labels = data_of(site)
    hits = (points @ model.params["weights"] > 0) == labels
    return {"accuracy": float(hits.mean()), "num_examples": len(labels)}


def train(model: FLModel, site: Site) -> FLModel:
    """Take some steps of gradient descent; ``model.params`` is a private copy."""
    points, labels = data_of(site)
    weights = model.params["weights"]
    for _ in range(STEPS):
        guesses = 1 / (1 + np.exp(-points @ weights))
        weights -= 0.1 * points.T @ (guesses - labels) / len(labels)
    return FLModel(params={"weights": weights}, meta={"NUM_STEPS_CURRENT_ROUND": STEPS})


def recipe() -> FedAvgRecipe:
    """Return the job: for ``hunt`` and ``what-if``, too."""
    return FedAvgRecipe(
        name="numpy-fedavg",
        model={"weights": np.zeros(3)},
        min_clients=4,
        num_rounds=5,
        train=train,
        evaluate=evaluate,
    )


def main() -> Run:
    """Run five rounds with four sites."""
    run = recipe().execute(SimEnv(num_clients=4, seed=7))
    print(run.explain())
    print("weights:", run.model.numpy()["weights"].round(3))
    return run


if __name__ == "__main__":
    main()
