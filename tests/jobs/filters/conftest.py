"""A small federation whose updates pass filters."""

from __future__ import annotations

import numpy as np
import pytest

from flare_async import SimEnv
from flare_async.recipes import FedAvgRecipe
from tests.jobs.filters.functions import train

SITES = 3


@pytest.fixture
def play(tmp_path):
    """Return a function that runs a recipe with filters."""

    def run(*added, recipe=None, size=1000, check=True, **options):
        model = {"w": np.linspace(-1, 1, size, dtype=np.float32), "b": np.ones((2, 2))}
        settings = {"workers": "inline", "seed": 5, "workspace_root": tmp_path, **options}
        recipe = recipe or FedAvgRecipe(train=train, model=model, min_clients=2, num_rounds=2)
        for place, one, *rest in added:
            getattr(recipe, f"add_{place}_filter")(one, *rest)
        return recipe.execute(SimEnv(num_clients=SITES, **settings), check=check)

    return run
