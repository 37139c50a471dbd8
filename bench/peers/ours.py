"""The exchange in our simulator, with its documented default: training in a thread."""

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


def main() -> None:
    """Run as the command line says, and print what came of it."""
    found = argparse.ArgumentParser()
    found.add_argument("--folder", required=True)
    found.add_argument("--nbytes", type=int, required=True)
    found.add_argument("--clients", type=int, required=True)
    found.add_argument("--rounds", type=int, required=True)
    found.add_argument("--workers", default="thread")
    found.add_argument("--transport", default="memory")
    options = found.parse_args()
    recipe = FedAvgRecipe(
        name="peers",
        model={"numpy_key": np.full(options.nbytes // 4, 0.5, np.float32)},
        min_clients=options.clients,
        num_rounds=options.rounds,
        train=partial(train, folder=options.folder),
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
