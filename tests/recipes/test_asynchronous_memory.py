"""A run without rounds holds at its peak what was planned, however many sites it has."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from flare_async import FLModel, Limits, SimEnv
from flare_async.jobs.events import MemoryPlanned
from flare_async.recipes import AsyncFedAvgRecipe, FedAvgRecipe, FedBuffRecipe

SIZE = 4_000_000  # bytes of the model
CLIENTS = 8
RECIPES = {
    "fedbuff": (FedBuffRecipe, {"buffer_size": 3, "concurrency": 2, "num_rounds": 6}),
    "async": (AsyncFedAvgRecipe, {"concurrency": 2, "num_rounds": 12}),
    "median": (FedAvgRecipe, {"aggregator": "median", "num_rounds": 3}),
}


def train(model, site):
    """Return new memory."""
    return FLModel(params={"w": model.params["w"] + np.float32(1)})


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_what_is_planned_is_held_at_most(tmp_path, name):
    """Versions, updates that wait, the new model; measured from the plan on."""
    plans = []

    def observe(event):
        if isinstance(event, MemoryPlanned):
            plans.append((event.plan, tracemalloc.get_traced_memory()[0]))

    made, options = RECIPES[name]
    model = {"w": np.zeros(SIZE // 4, np.float32)}
    recipe = made(model=model, min_clients=CLIENTS, train=train, **options)
    env = SimEnv(
        num_clients=CLIENTS,
        workers="inline",
        workspace_root=tmp_path,
        limits=Limits(staging_bytes=SIZE),
        observer=observe,
    )
    recipe.execute(env)  # what is imported or cached at the first run is no part of a run
    plans.clear()
    tracemalloc.start()
    try:
        recipe.execute(env)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    [(plan, before)] = plans
    planned = plan.nbytes - plan.parts[0].nbytes
    assert peak - before < planned + SIZE / 4
    assert planned < 16 * SIZE
