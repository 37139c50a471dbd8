"""Filters see a control variate's change as it is; the server adds what they left of it."""

from __future__ import annotations

import numpy as np
import pytest

from flare_async import FLModel, SimEnv
from flare_async.client import ParamsType
from flare_async.recipes import FedAvgRecipe, ScaffoldRecipe
from flare_async.transfer.filters import (
    ArrayFilter,
    ExcludeVars,
    ModelDequantizer,
    ModelQuantizer,
)

STEP = 0.375  # the mean of the two sites' changes of the control


class Halves(ArrayFilter):
    """Halves every change."""

    differences = True

    def array(self, name, array, passage):
        """Return half of it."""
        return array / 2


@pytest.fixture
def controls(tmp_path):
    """Return a function that plays SCAFFOLD and returns the control that each round began with."""

    def play(kind, *added):
        seen = []

        def train(model, site):
            if site.index == 0:
                seen.append(float(model.meta["scaffold_c_global"]["w"][0]))
            old = 0.0 if kind is ParamsType.FULL else model.params["w"]
            change = {"w": np.full(4, 0.25 * (site.index + 1))}
            new = {"w": model.params["w"] + 1.0 - old}
            return FLModel(params=new, params_type=kind, meta={"scaffold_c_diff": change})

        recipe = ScaffoldRecipe(train=train, model={"w": np.zeros(4)}, min_clients=2, num_rounds=4)
        for place, one in added:
            getattr(recipe, f"add_{place}_filter")(one)
        recipe.execute(SimEnv(num_clients=2, workers="inline", workspace_root=tmp_path))
        return seen

    return play


SMALL = (("client_output", ModelQuantizer()), ("server_input", ModelDequantizer()))


@pytest.mark.parametrize("kind", list(ParamsType))
@pytest.mark.parametrize(
    ("added", "share"),
    [
        ((), 1),
        (SMALL, 1),
        ((("client_output", Halves()),), 0.5),
        ((("client_output", Halves()), *SMALL), 0.5),
        ((("client_output", ExcludeVars(".*")),), 0),
        ((("server_input", ExcludeVars(".*")),), 0),
        ((*SMALL, ("server_input", ExcludeVars(".*"))), 0),
    ],
)
def test_a_control_grows_by_what_filters_leave_of_its_change(controls, kind, added, share):
    """And by nothing of what the server has sent, which would double it in every round."""
    assert controls(kind, *added) == pytest.approx([share * STEP * at for at in range(4)])


def test_whole_weights_that_the_server_excludes_stay_as_they_were(tmp_path):
    """A filter at the server compares with the model of the round, as one at a site does."""

    def train(model, site):
        return FLModel(params={name: value + 1 for name, value in model.params.items()})

    model = {"w": np.ones(4), "b": np.ones(3)}
    recipe = FedAvgRecipe(train=train, model=model, min_clients=2, num_rounds=2)
    recipe.add_server_input_filter(ExcludeVars(["b"]))
    run = recipe.execute(SimEnv(num_clients=2, workers="inline", workspace_root=tmp_path))
    assert {name: set(value) for name, value in run.model.numpy().items()} == {"w": {3}, "b": {1}}
