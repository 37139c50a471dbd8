"""A run without rounds holds at its peak what was planned, however many sites it has."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from flare_async import FLModel, Limits, SimEnv
from flare_async.jobs.events import MemoryPlanned
from flare_async.model import ParamsType
from flare_async.recipes import AsyncFedAvgRecipe, FedAvgRecipe, FedBuffRecipe

SIZE = 4_000_000  # bytes of the model
CLIENTS = 8


class Keeps:
    """An aggregator that keeps what it is handed until the end."""

    def __init__(self):
        self.models = []

    def reset_stats(self):
        self.models = []

    def accept_model(self, model):
        self.models.append(model.params["w"])

    def aggregate_model(self):
        return FLModel(params={"w": np.median(np.stack(self.models[:1]), axis=0)})


class Adds:
    """An aggregator that keeps a sum."""

    models_held = 2  # the sum, and what it is divided into

    def __init__(self, kind=ParamsType.FULL):
        self.kind, self.sum, self.count = kind, None, 0

    def reset_stats(self):
        self.sum, self.count = None, 0

    def accept_model(self, model):
        w = model.params["w"]
        self.sum = w if self.sum is None else np.add(self.sum, w, out=self.sum)
        self.count += 1

    def aggregate_model(self):
        return FLModel(params={"w": self.sum / np.float32(self.count)}, params_type=self.kind)


RECIPES = {
    "fedbuff": (FedBuffRecipe, {"buffer_size": 3, "concurrency": 2, "num_rounds": 6}),
    "async": (AsyncFedAvgRecipe, {"concurrency": 2, "num_rounds": 12}),
    "all": (FedBuffRecipe, {"buffer_size": 10, "num_rounds": 3}),
    "median": (FedAvgRecipe, {"aggregator": "median", "num_rounds": 3}),
    "krum": (FedAvgRecipe, {"aggregator": "krum", "num_rounds": 3}),
    "keeps all": (FedAvgRecipe, {"aggregator": Keeps(), "num_rounds": 3}),
    "keeps one": (FedAvgRecipe, {"aggregator": Adds(), "num_rounds": 3}),
    "a difference": (FedAvgRecipe, {"aggregator": Adds(ParamsType.DIFF), "num_rounds": 3}),
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
    assert planned < 1.6 * (peak - before)
