"""The plan of federated statistics holds as many features as there may be."""

from __future__ import annotations

import string
import tracemalloc

import pytest

from flare_async import SimEnv
from flare_async.jobs.plan import Layout, plan_memory
from flare_async.limits import Limits
from flare_async.recipes import FedStatsRecipe
from flare_async.recipes.statistics import DataType, Feature
from flare_async.recipes.statistics.configs import Wanted
from flare_async.recipes.statistics.plan import Cell, Common, Plan, features_to_bytes
from flare_async.recipes.statistics.tables import Tables
from tests.recipes.statistics.generators import Arrays

NAMES = string.ascii_letters
ROOM = 10 * len(NAMES) + 10
SITES = ["site-1", "site-2", "site-3", "site-4"]
CONFIGS = {
    **{name: {} for name in ("count", "sum", "mean", "stddev", "var", "min", "max")},
    "histogram": {"*": {"bins": 20}},
    "quantile": {"*": [0.25, 0.5, 0.75]},
}


class Letters(Arrays):
    """Statistics of one column, which has many names."""

    def initialize(self, site):
        """Draw the column."""
        self.column = site.rng.normal(size=400)

    def features(self):
        """Return one for each letter."""
        return {"d": [Feature(name, DataType.FLOAT) for name in NAMES]}

    def values(self, dataset, feature, method=""):
        """Return the column."""
        return self.column

    def failure_count(self, dataset, feature):
        """Return that none is missing."""
        return 0


def made(**options):
    """Return the recipe, with room for the names and nothing beside them."""
    return FedStatsRecipe(
        "stats", "stats.json", SITES, CONFIGS, Letters(), max_feature_bytes=ROOM, **options
    )


@pytest.mark.parametrize("configs", [CONFIGS, {"count": {}}, {"histogram": {"*": {"bins": 900}}}])
def test_every_tensor_of_every_step_has_room(configs):
    """With as many features as the shortest names allow."""
    features_to_bytes(Letters().features(), ROOM)
    cells = tuple(Cell("d", name) for name in NAMES)
    common = (Common(400.0, -1.2345678901234567e-89, -1.0 / 3, 2.0 / 3),) * len(cells)
    recipe = made()
    recipe.statistic_configs = configs
    recipe._wanted = wanted = Wanted.of(configs)
    demand = recipe.demand()
    for step in (1, 2) if wanted.needs_second else (1,):
        tensors = Tables(Plan(step, cells, common), wanted, 200).empty()
        assert sum(array.nbytes for array in tensors.values()) <= demand.model
        assert max(array.nbytes for array in tensors.values()) <= demand.largest


def test_a_run_holds_less_than_its_plan(tmp_path):
    """Of what Python counts; and the plan is not beyond all measure."""
    pytest.importorskip("fastdigest")
    env = SimEnv(clients=SITES, workers="inline", num_threads=1, workspace_root=tmp_path)
    made().execute(env)  # imports what there is to import
    tracemalloc.start()
    try:
        made().execute(env)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    layout = Layout(sites=len(SITES), workers="inline")
    plan = plan_memory(0, made().demand(), layout, Limits())
    assert plan.nbytes / 4 < peak < plan.nbytes
