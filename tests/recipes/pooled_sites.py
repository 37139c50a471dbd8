"""Train functions of the scikit-learn recipes; other processes load them by this file's path."""

from __future__ import annotations

import numpy as np
from sklearn.svm import SVC

from flare_async import FLModel
from tests.references.pooled_sklearn import first_centers, flowers, local_step, tumours

FAILING = 1


def slopes(model, site):
    """Return gradient and Hessian of a site's logistic regression."""
    samples, labels = tumours(site.index, site.num_sites)
    columns = np.column_stack([np.ones(len(samples)), samples])
    odds = 1 / (1 + np.exp(-columns @ model.params["numpy_key"][:, 0]))
    return FLModel(
        params={
            "gradient": (columns.T @ (labels - odds))[:, None],
            "hessian": (columns.T * (odds * (1 - odds))) @ columns,
        },
        metrics={"accuracy": float(np.mean((odds > 0.5) == labels))},
        meta={"NUM_STEPS_CURRENT_ROUND": len(labels)},
    )


def clusters(model, site):
    """Return first centres in round 0, then means and counts."""
    samples = flowers(site.index, site.num_sites)
    if model.current_round == 0:
        assert model.params == {"n_clusters": 3}
        return FLModel(params={"center": first_centers(samples, site.index), "count": None})
    center, count = local_step(samples, model.params["center"])
    spread = float(((samples[:, None] - model.params["center"]) ** 2).sum(axis=2).min(axis=1).sum())
    return FLModel(params={"center": center, "count": count}, metrics={"metrics": -spread})


def vectors(model, site):
    """Return a site's support vectors."""
    samples, labels = tumours(site.index, site.num_sites)
    found = SVC(kernel=model.params["kernel"]).fit(samples, labels).support_
    return FLModel(params={"support_x": samples[found], "support_y": labels[found]})


def judged(model, site):
    """Return the accuracy of the global support vectors."""
    samples, labels = tumours(site.index, site.num_sites)
    machine = SVC(kernel=model.params["kernel"])
    machine.fit(model.params["support_x"], model.params["support_y"])
    return {"AUC": float(machine.score(samples, labels))}


def failing(train):
    """Return a train function that one site fails in."""

    def sometimes(model, site):
        if site.index == FAILING:
            raise ValueError("no data")
        return train(model, site)

    return sometimes
