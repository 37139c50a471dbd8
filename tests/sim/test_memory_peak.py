"""A run holds at its peak what was planned, however many sites it has."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from flare_async import FLModel, Limits, SimEnv
from flare_async.jobs.events import MemoryPlanned
from flare_async.recipes import FedAvgRecipe

SIZE = 4_000_000  # bytes of the model
CLIENTS = 12


def train(model, site):
    """Return new memory, faster than it can be summed."""
    return FLModel(params={"w": model.params["w"] + np.float32(1)})


@pytest.mark.parametrize("timeout", [None, 600.0])
@pytest.mark.parametrize("workers", ["inline", "thread"])
def test_results_do_not_pile_up(tmp_path, workers, timeout):
    """One waits and one is made: a site's result is gone when it is in the sum."""
    plans = []

    def observe(event):
        if isinstance(event, MemoryPlanned):
            plans.append(event.plan)
            plans.append(tracemalloc.get_traced_memory()[0])

    env = SimEnv(
        num_clients=CLIENTS,
        workers=workers,
        workspace_root=tmp_path,
        limits=Limits(staging_bytes=SIZE),
        observer=observe,
    )
    model = {"w": np.zeros(SIZE // 4, np.float32)}
    recipe = FedAvgRecipe(
        model=model, min_clients=CLIENTS, num_rounds=5, train=train, round_timeout=timeout
    )
    recipe.execute(env)  # what is imported or cached at the first run is no part of a run
    plans.clear()
    tracemalloc.start()
    try:
        recipe.execute(env)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    plan, before = plans
    planned = plan.nbytes - plan.parts[0].nbytes
    assert peak - before < planned + SIZE / 4
    assert planned < 9 * SIZE
