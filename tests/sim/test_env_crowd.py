"""More sites than may say hello at a time, and what a run's collector does with them."""

from __future__ import annotations

import gc
import resource

import numpy as np
import pytest

from flare_async import SimEnv
from flare_async.errors import RunFailed
from flare_async.jobs.loops import calm_collector, spare_collector
from flare_async.recipes import FedAvgRecipe
from flare_async.sim.crowd import CROWD


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
    with spare_collector():
        assert gc.get_threshold()[0] > 0
    before = gc.get_freeze_count()
    with calm_collector():
        frozen = gc.get_freeze_count()
        with spare_collector():
            assert gc.get_threshold()[0] == 0
            kept = [[] for _ in range(1000)]
        assert gc.get_threshold()[0] > 0
        assert gc.get_freeze_count() >= frozen + len(kept)
    assert gc.get_freeze_count() <= before


def test_a_collector_looks_as_seldom_as_so_many_sites_need_and_never_more_often():
    """What thousands of sites hold in a round is no garbage; the end restores what was before."""
    before = gc.get_threshold()
    with calm_collector():
        calm = gc.get_threshold()
        with spare_collector(calm[0] - 1):
            pass
        assert gc.get_threshold() == calm
        with spare_collector(3 * calm[0]):
            pass
        assert gc.get_threshold() == (3 * calm[0], *calm[1:])
    assert gc.get_threshold() == before


def test_what_a_host_has_frozen_stays_frozen_and_nothing_of_the_run_does():
    """Whoever froze its own objects has not asked for them to be looked at again."""
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        with calm_collector(), spare_collector():
            kept = [[] for _ in range(1000)]
        assert len(kept) == 1000
        assert 0 < gc.get_freeze_count() <= frozen
    finally:
        gc.unfreeze()


@pytest.mark.slow
def test_sites_over_sockets_get_the_files_that_they_need(tmp_path):
    """The usual limit is for a thousand; two are needed a site."""
    model, sites = {"w": np.zeros(4, np.float32)}, 300
    recipe = FedAvgRecipe(name="crowd", model=model, num_rounds=1, min_clients=sites, train=same)
    env = SimEnv(num_clients=sites, workers="inline", transport="tcp", workspace_root=tmp_path)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (400, before[1]))
    try:
        assert recipe.execute(env, check=False).status == "completed"
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 700
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_files_that_the_system_refuses_are_named(tmp_path, monkeypatch):
    """The simulation says how many it needs."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (400, 400))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    model, sites = {"w": np.zeros(4, np.float32)}, 300
    recipe = FedAvgRecipe(name="crowd", model=model, num_rounds=1, min_clients=sites, train=same)
    env = SimEnv(num_clients=sites, workers="inline", transport="tcp", workspace_root=tmp_path)
    with pytest.raises(RunFailed, match="a process may open 400 files, 700 are needed"):
        recipe.execute(env)
