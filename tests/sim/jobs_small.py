"""Small jobs: train functions in a file that a worker can load by its path, and their recipes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from flare_async import SimEnv
from flare_async.model import FLModel
from flare_async.recipes import FedAvgRecipe

SITES = [f"site-{number}" for number in range(1, 7)]


def numpy_model():
    """Return a model of two tensors."""
    rng = np.random.default_rng(3)
    return {"w": rng.normal(size=(20, 5)).astype(np.float32), "n": np.zeros(3, np.int64)}


def numpy_train(model, site):
    """Take one noisy step."""
    noise = site.rng.normal(size=(20, 5))
    params = {"w": model.params["w"] * 0.9 + noise, "n": model.params["n"] + 1}
    meta = {"NUM_STEPS_CURRENT_ROUND": site.index + 1}
    return FLModel(params=params, metrics={"accuracy": float(noise[0, 0])}, meta=meta)


def torch_model():
    """Return a small net."""
    import torch

    torch.manual_seed(0)
    return torch.nn.Linear(8, 3)


def torch_train(model, site):
    """Take one step of plain SGD."""
    import torch

    net = torch.nn.Linear(8, 3)
    net.load_state_dict(model.params)
    net(torch.randn(16, 8, generator=site.torch_rng())).square().mean().backward()
    with torch.no_grad():
        for weight in net.parameters():
            weight.sub_(0.1 * weight.grad)
    return FLModel(params=net.state_dict())


def failing(model, site):
    """Fail at the sites that the options name, train at the others."""
    if site.name in site.config["fails"]:
        raise ValueError(f"no data at {site.name}")
    return numpy_train(model, site)


def sleeping(model, site):
    """Say that it has begun, through a named pipe, and train for a minute."""
    with Path(site.config["pipe"]).open("w") as pipe:
        pipe.write(f"{os.getpid()}\n")
    time.sleep(60)
    return numpy_train(model, site)


def recipe_of(train=numpy_train, **options):
    """Return a small recipe for four sites."""
    settings = {"model": numpy_model(), "min_clients": 4, "num_rounds": 2, **options}
    return FedAvgRecipe(train=train, **settings)


def run_of(recipe, root, *, check=False, **options):
    """Run a recipe to its end."""
    settings = {"num_clients": 4, "workers": "inline", "seed": 7, "workspace_root": root, **options}
    return recipe.execute(SimEnv(**settings), check=check)
