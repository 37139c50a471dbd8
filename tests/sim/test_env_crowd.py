"""More sites than may say hello at a time, and what a run's collector does with them."""

from __future__ import annotations

import gc

import numpy as np

from flare_async import SimEnv
from flare_async.jobs.loops import calm_collector, spare_collector
from flare_async.recipes import FedAvgRecipe
from flare_async.sim.simulation import CROWD


def same(model, site):
    """Return what came."""
    return model


def test_more_sites_than_a_crowd_all_take_part(tmp_path):
    """They connect one crowd after the other, and each is asked in every round."""
    model = {"w": np.zeros(4, np.float32)}
    sites = 2 * CROWD + 1
    recipe = FedAvgRecipe(name="crowd", model=model, num_rounds=1, min_clients=sites, train=same)
    run = recipe.execute(SimEnv(num_clients=sites, workers="inline", workspace_root=tmp_path))
    (record,) = run.history.rounds
    assert record.arrived == sites


def test_a_calm_collector_spares_what_exists_and_another_one_is_left_alone():
    """Only a process that the run has to itself is treated so, and only until its end."""
    spare_collector()
    before = gc.get_freeze_count()
    with calm_collector():
        kept = [[] for _ in range(1000)]
        frozen = gc.get_freeze_count()
        spare_collector()
        assert gc.get_freeze_count() >= frozen + len(kept)
    assert gc.get_freeze_count() <= before
