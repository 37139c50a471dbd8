"""What a site cannot or may not tell is said, in the history or in an error."""

from __future__ import annotations

import pytest

from flare_async import SimEnv
from flare_async.errors import RunFailed
from tests.recipes.statistics.test_fed_stats import SITES, recipe, result


def test_what_privacy_withholds_is_counted_in_the_history(tmp_path):
    """A site that may tell nothing has answered, and says so; the third site has no rows."""
    made = recipe(min_count=60, min_clients=4)
    run = made.execute(SimEnv(clients=SITES, workers="inline", workspace_root=tmp_path))
    for record in run.history.rounds[1:]:
        counts = {
            site.site: (site.metrics["features_told"], site.metrics["features_withheld"])
            for site in record.sites
        }
        assert counts == {"site-1": (3, 0), "site-2": (1, 3), "site-3": (0, 3), "site-4": (1, 2)}


def test_features_have_as_much_room_as_the_recipe_says(tmp_path):
    """A site whose names need more fails, and the error has the argument."""
    made = recipe(max_feature_bytes=40, min_clients=1)
    with pytest.raises(RunFailed, match=r"names of 4 features take \d+ bytes.*max_feature_bytes"):
        result(made, tmp_path)
    assert result(recipe(max_feature_bytes=4096), tmp_path)["age"]["count"]["Global"]
