"""The exchange in our simulator, with its documented default: training in a thread.

``--work add`` adds one and notes when, unless ``--silent``; ``sgd`` adds one by a step of SGD with
learning rate 1 on a PyTorch model, as a client of pfl does, and notes nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from flare_async import FLModel, SimEnv
from flare_async.jobs.site import Site
from flare_async.recipes import FedAvgRecipe

__all__ = ["main", "train"]


def train(model: FLModel, site: Site, folder: str) -> FLModel:
    """Add one to what came, and note when."""
    with (Path(folder) / f"{site.name}.txt").open("a", encoding="ascii") as file:
        file.write(f"{time.time()}\n")
    params: dict[str, Any] = dict(model.params or {})
    return FLModel(params={name: array + np.float32(1) for name, array in params.items()})


def add(model: FLModel, site: Site) -> FLModel:
    """Add one to what came."""
    params: dict[str, Any] = dict(model.params or {})
    return FLModel(params={name: array + np.float32(1) for name, array in params.items()})


def step(model: FLModel, site: Site) -> FLModel:
    """Take one step of SGD on minus the sum of what came, which adds one."""
    import torch

    came = (model.params or {})["numpy_key"]
    weights = torch.nn.Parameter(torch.from_numpy(came))
    optimizer = torch.optim.SGD([weights], lr=1.0)
    (-weights.sum()).backward()
    optimizer.step()
    return FLModel(params={"numpy_key": weights.detach().numpy()})


def main() -> None:
    """Run as the command line says, and print what came of it."""
    found = argparse.ArgumentParser()
    found.add_argument("--folder", required=True)
    found.add_argument("--nbytes", type=int, required=True)
    found.add_argument("--clients", type=int, required=True)
    found.add_argument("--rounds", type=int, required=True)
    found.add_argument("--workers", default="thread")
    found.add_argument("--transport", default="memory")
    found.add_argument("--work", choices=("add", "sgd"), default="add")
    found.add_argument("--silent", action="store_true", help="sites do not note when they train")
    options = found.parse_args()
    noted = partial(train, folder=options.folder)
    work = step if options.work == "sgd" else add if options.silent else noted
    recipe = FedAvgRecipe(
        name="peers",
        model={"numpy_key": np.full(options.nbytes // 4, 0.5, np.float32)},
        min_clients=options.clients,
        num_rounds=options.rounds,
        train=work,
    )
    env = SimEnv(
        num_clients=options.clients,
        workers=options.workers,
        transport=options.transport,
        workspace_root=options.folder,
    )
    run = recipe.execute(env)
    value = None if run.model is None else float(run.model.numpy()["numpy_key"].flat[-1])
    ok = value == 0.5 + options.rounds
    rounds = [record.seconds for record in run.history.rounds]
    print(json.dumps({"ok": ok, "values": [value], "rounds": rounds}))
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
