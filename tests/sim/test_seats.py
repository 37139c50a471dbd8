"""Sites that share a worker process wait for it, and keep nobody from another one."""

from __future__ import annotations

import os
from functools import partial

import numpy as np
import pytest

from flare_async import SimEnv
from flare_async.recipes import FedAvgRecipe
from tests.sim.seats import train


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_long_training_does_not_hold_up_the_other_worker(tmp_path):
    """Site 3 waits for site 1's worker, while site 4 trains in the other one and ends the wait."""
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    train_function = partial(train, pipe=pipe)
    recipe = FedAvgRecipe(
        model={"w": np.zeros(3)}, min_clients=4, num_rounds=1, train=train_function
    )
    env = SimEnv(num_clients=4, workers="process", num_threads=2, workspace_root=tmp_path)
    run = recipe.execute(env)
    assert [site.status for site in run.history.rounds[0].sites] == ["ok"] * 4
