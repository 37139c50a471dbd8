"""A small NumPy federation against the public surface only; CI runs it from an installed wheel."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path

import numpy as np

import flare_async
from flare_async import FLModel, SimEnv
from flare_async.recipes import FedAvgRecipe

__all__ = ["main", "train"]


def train(model, site):
    """Add one to every weight: after two rounds the global model is two everywhere."""
    return FLModel(params={"w": model.params["w"] + 1}, metrics={"loss": 0.1})


def main() -> None:
    """Run two rounds at two sites; check the model, the run folder and where the code is from."""
    assert importlib.util.find_spec("torch") is None, (
        "this job checks an installation without torch"
    )
    assert Path(flare_async.__file__).is_relative_to(sys.prefix), flare_async.__file__
    with tempfile.TemporaryDirectory() as folder:
        recipe = FedAvgRecipe(
            name="wheel",
            model={"w": np.zeros(4, np.float32)},
            train=train,
            min_clients=2,
            num_rounds=2,
        )
        run = recipe.execute(SimEnv(num_clients=2, workspace_root=folder))
        assert run.status == "completed", run.status
        weights = run.model.numpy()["w"]
        assert np.array_equal(weights, np.full(4, 2, np.float32)), weights
        assert (run.get_result() / "FL_global_model.safetensors").is_file(), run.get_result()
    sys.stdout.write("wheel job: 2 rounds, 2 sites, model checked\n")


if __name__ == "__main__":
    main()
