"""Train functions for recipes without rounds; other processes load them by this file's path."""

from __future__ import annotations

import math

import anyio
import numpy as np

from flare_async import FLModel

SIZE = 40
TARGETS = {f"site-{at}": np.linspace(-at, at, SIZE) for at in range(1, 7)}


def first():
    """Return the first model."""
    return {"w": np.linspace(0, 3, SIZE).astype(np.float32)}


def change(site, task, model):
    """Return what local training adds to a model; depends on all three."""
    return 0.3 * (TARGETS[site] - model) + 0.05 * math.sin(7 * task + len(site) + TARGETS[site][0])


def moved(model, site):
    """Move towards the site's own target."""
    w = model.params["w"]
    new = w.astype(np.float64) + change(site.name, site.round_number, w)
    steps = {"NUM_STEPS_CURRENT_ROUND": 1 + site.index}
    return FLModel(params={"w": new.astype(np.float32)}, meta=steps, metrics={"loss": 1.0})


def moved_unless_bad(model, site):
    """Do as ``moved``, but for one site that cannot."""
    if site.name == "site-2":
        raise RuntimeError("no data here")
    return moved(model, site)


async def timed(model, site):
    """Take as many seconds as the site's config says."""
    await anyio.sleep(site.config.get("seconds", 1.0))
    return moved(model, site)


def accuracy(model, site):
    """Return a metric that grows with the model, and the site's own part of it."""
    return {"accuracy": float(np.mean(model.params["w"])) + site.index, "num_examples": 2.0}


def never(model, site):
    """Fail, wherever it is called."""
    raise RuntimeError(f"{site.name} was asked to train")


def moved_at_the_second_try(model, site):
    """Do as ``moved``, but fail once before each task."""
    tried = site.state.setdefault("tried", set())
    if site.round_number not in tried:
        tried.add(site.round_number)
        raise RuntimeError("not yet")
    return moved(model, site)
