"""FedAvg of least squares against the pooled problem, which knows no sites and no rounds."""

from __future__ import annotations

import asyncio
import itertools
from functools import partial

import numpy as np
import pytest

from flare_async import FLModel, SimEnv
from flare_async.model import ParamsType
from flare_async.recipes import FedAvgRecipe
from tests.references.averaging import alike_sites, pooled_descent, pooled_solution, sites_of

SIZES, RATE, ROUNDS = (3, 10, 25, 7), 0.1, 5
SITES = sites_of(SIZES)
ALIKE = alike_sites((6, 10, 25, 7))
NEAR = {"rtol": 0, "atol": 1e-6}  # float32 weights near 1


def descend(model, site, kind="FULL", failing=-1):
    """Take one gradient step on all rows of the site."""
    if site.index == failing:
        raise OSError("no data")
    rows, w = SITES[site.index], model.params["w"].astype(np.float64)
    change = -RATE * rows.x.T @ (rows.x @ w - rows.y) / len(rows.y)
    new = change if kind == "DIFF" else w + change
    meta = {"NUM_STEPS_CURRENT_ROUND": len(rows.y)}
    return FLModel(params={"w": new}, params_type=ParamsType(kind), meta=meta)


def solve(model, site):
    """Return the site's own solution."""
    rows = ALIKE[site.index]
    own = np.linalg.lstsq(rows.x, rows.y, rcond=None)[0]
    return FLModel(params={"w": own}, meta={"NUM_STEPS_CURRENT_ROUND": len(rows.y)})


def weights_of(tmp_path, train=descend, env=None, **options):
    """Return the weights after a run."""
    settings = {"model": {"w": np.zeros(4, np.float32)}, "min_clients": 3, "num_rounds": ROUNDS}
    recipe = FedAvgRecipe(train=train, **{**settings, **options})
    given = {"num_clients": 4, "workers": "inline", "workspace_root": tmp_path, **(env or {})}
    return recipe.execute(SimEnv(**given)).model.numpy()["w"]


@pytest.mark.parametrize("options", [{}, {"params_transfer_type": "DIFF"}])
def test_one_step_on_every_site_is_one_step_on_all_data(tmp_path, options):
    """The mean of gradients, weighted by rows, is the gradient of the mean."""
    expected = pooled_descent(SITES, [1, 1, 1, 1], ROUNDS, RATE)
    np.testing.assert_allclose(weights_of(tmp_path, **options), expected, **NEAR)


def test_differences_of_user_code_are_added_to_the_model(tmp_path):
    """``ParamsType.DIFF`` from the function itself."""
    found = weights_of(tmp_path, partial(descend, kind="DIFF"))
    expected = pooled_descent(SITES, [1, 1, 1, 1], ROUNDS, RATE)
    np.testing.assert_allclose(found, expected, **NEAR)


def test_weights_of_sites_are_factors_of_their_steps(tmp_path):
    """``aggregation_weights`` is as if a site's rows came so many times."""
    given = {"site-1": 3.0, "site-3": 0.5}
    expected = pooled_descent(SITES, [3.0, 1.0, 0.5, 1.0], ROUNDS, RATE)
    found = weights_of(tmp_path, aggregation_weights=given)
    np.testing.assert_allclose(found, expected, **NEAR)


def test_the_mean_of_solutions_is_the_solution_where_sites_are_alike(tmp_path):
    """With equal second moments one round of exact local work solves the pooled problem."""
    found = weights_of(tmp_path, solve, num_rounds=1)
    np.testing.assert_allclose(found, pooled_solution(ALIKE), **NEAR)


def test_a_failing_site_is_as_if_its_rows_were_not_there(tmp_path):
    """The others' mean is divided by their own weight."""
    found = weights_of(tmp_path, partial(descend, failing=1))
    others = [SITES[0], SITES[2], SITES[3]]
    np.testing.assert_allclose(found, pooled_descent(others, [1, 1, 1], ROUNDS, RATE), **NEAR)


def test_the_sum_is_taken_in_the_order_of_the_cohort(tmp_path):
    """With float32 accumulators the order is in the bits."""
    found = weights_of(tmp_path, num_rounds=1, accumulator="float32")
    total = np.zeros(4, np.float32)
    for rows in SITES:
        start = np.zeros(4)
        new = start - RATE * rows.x.T @ (rows.x @ start - rows.y) / len(rows.y)
        total += new.astype(np.float32) * np.float32(len(rows.y))
    assert found.tobytes() == (total / np.float32(sum(SIZES))).tobytes()


class InOrder:
    """A train function that lets its sites end in a given order."""

    def __init__(self, order):
        self.order, self.ended = order, {}

    async def __call__(self, model, site):
        """Wait for the site before, then descend."""
        place = self.order.index(site.index)
        mine = self.ended.setdefault((site.round_number, place), asyncio.Event())
        if place:
            key = (site.round_number, place - 1)
            await self.ended.setdefault(key, asyncio.Event()).wait()
        result = descend(model, site)
        mine.set()
        return result


def test_no_order_of_arrival_changes_a_bit(tmp_path):
    """Nor does anything else that is not part of the sum."""
    orders = [*itertools.permutations(range(4))][::5]
    found = {
        weights_of(tmp_path / str(at), InOrder(order), {"num_threads": 4}, num_rounds=2).tobytes()
        for at, order in enumerate(orders)
    }
    assert found == {weights_of(tmp_path / "plain", num_rounds=2).tobytes()}


@pytest.mark.parametrize(
    "env",
    [
        {"transport": "tcp"},
        {"workers": "thread"},
        {"workers": "process"},
        {"relays": 2},
        {"relays": 2, "relay_mode": "cache", "transport": "tcp"},
    ],
)
def test_links_workers_and_relays_change_no_bit(tmp_path, env):
    """What passes models on, and where sites train, is not part of the sum."""
    plain = weights_of(tmp_path / "plain", num_rounds=2)
    assert weights_of(tmp_path / "other", env=env, num_rounds=2).tobytes() == plain.tobytes()


@pytest.mark.parametrize("exact", [False, True])
def test_relays_that_add_agree(tmp_path, exact):
    """To rounding, or with ``exact`` to the bit."""
    env = {"relays": 2, "relay_mode": "reduce"}
    flat = weights_of(tmp_path / "flat", num_rounds=2, exact=exact)
    added = weights_of(tmp_path / "added", env=env, num_rounds=2, exact=exact)
    np.testing.assert_allclose(added, flat, **NEAR)
    assert not exact or added.tobytes() == flat.tobytes()
