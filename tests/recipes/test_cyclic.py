"""Cyclic weight transfer: the orders, the turns, and what becomes of a site that fails."""

from __future__ import annotations

import numpy as np
import pytest

from flare_async import SimEnv
from flare_async.errors import ConfigError, RunFailed
from flare_async.net.rng import SeededRandom
from flare_async.recipes import CyclicRecipe
from flare_async.recipes.cyclic import drawn
from tests.recipes.async_sites import accuracy, change, first, moved, moved_unless_bad
from tests.references.asynchronous import cycle

SITES = ("site-1", "site-2", "site-3", "site-4")


def recipe(**options):
    """Return a recipe with the usual arguments."""
    usual = {"model": first(), "train": moved, "min_clients": 2, "num_rounds": 3}
    return CyclicRecipe(**{**usual, **options})


def env(folder, clients=4, **options):
    """Return an environment that keeps its runs in a folder."""
    settings = {"workers": "inline", "seed": 5, "workspace_root": folder, **options}
    return SimEnv(num_clients=clients, **settings)


def close(run, orders):
    """Compare a run's model with the reference: what differs is float32's rounding of turns."""
    expected = cycle(first()["w"], orders, change)
    np.testing.assert_allclose(run.model.numpy()["w"], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("order", "played"),
    [("FIXED", SITES), (["site-3", "site-1"], ("site-3", "site-1"))],
)
def test_the_model_goes_from_site_to_site_in_the_order_given(tmp_path, order, played):
    """Each begins with what the one before it has made."""
    close(recipe(order=order).execute(env(tmp_path)), [played] * 3)


@pytest.mark.parametrize("order", ["RANDOM", "RANDOM_WITHOUT_SAME_IN_A_ROW"])
def test_a_drawn_order_is_that_of_the_seed(tmp_path, order):
    """The same in every run, and another one in other rounds."""
    run = recipe(order=order).execute(env(tmp_path))
    random, orders = SeededRandom(5), []
    for number in range(3):
        last = orders[-1][-1] if orders and order != "RANDOM" else ""
        orders.append(drawn(SITES, random, number, last))
    assert len(set(orders)) > 1
    close(run, orders)


def test_nobody_comes_twice_in_a_row_and_every_other_order_comes():
    """The site that was last is never first, and all others are."""
    orders = [drawn(SITES, SeededRandom(seed), 0, "site-2") for seed in range(300)]
    assert {order[0] for order in orders} == {"site-1", "site-3", "site-4"}
    assert len(set(orders)) == 18
    assert all(sorted(order) == sorted(SITES) for order in orders)


def test_bits_are_the_same_everywhere_and_with_differences(tmp_path):
    """Workers, transports and relays; a difference is rounded once more."""
    digests = {recipe().execute(env(tmp_path)).model.model_digest()}
    for options in (
        {"workers": "process", "num_threads": 2},
        {"transport": "tcp"},
        {"relays": 2, "relay_mode": "reduce"},
        {"relays": 2, "relay_mode": "reduce", "transport": "tcp"},
    ):
        digests.add(recipe().execute(env(tmp_path, **options)).model.model_digest())
    assert len(digests) == 1
    close(recipe(params_transfer_type="DIFF").execute(env(tmp_path)), [SITES] * 3)


def test_a_site_that_fails_is_passed_over(tmp_path):
    """The next one gets the model as it was."""
    run = recipe(train=moved_unless_bad).execute(env(tmp_path))
    close(run, [("site-1", "site-3", "site-4")] * 3)
    [(site, reason)] = run.history.failed_sites().items()
    assert (site, reason.partition(" (at ")[0]) == ("site-2", "RuntimeError: no data here")


def test_too_few_sites_that_train_fail_the_round(tmp_path):
    """Below ``min_clients``."""
    with pytest.raises(RunFailed, match="1 updates arrived, quorum is 2"):
        recipe(train=moved_unless_bad).execute(env(tmp_path, 2))


def test_a_version_is_judged_by_who_got_it_and_the_last_by_all(tmp_path):
    """The first site of a round has the model of the round before."""
    run = recipe(evaluate=accuracy, num_rounds=2).execute(env(tmp_path))
    assert [model.version for model in run.history.models] == [0, 1, 2]
    start = float(np.mean(first()["w"]))
    assert run.history.models[0].metrics["accuracy"] == pytest.approx(start)
    last = float(np.mean(run.model.numpy()["w"]))
    assert run.history.models[2].metrics["accuracy"] == pytest.approx(last + 1.5)


def test_the_command_of_a_script_is_handed_on():
    """As is whether one process serves all tasks."""
    path = __file__.replace("test_cyclic", "cross_site_script")
    made = recipe(
        train=None,
        train_script=path,
        command="python3 -O",
        launch_once=False,
        launch_external_process=True,
    )
    script = made.work("site-1").script
    assert (script.command, script.launch_once, script.external) == ("python3 -O", False, True)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"min_clients": 1}, "min_clients"),
        ({"order": "SORTED"}, "order"),
        ({"order": ["a", "a"]}, "order"),
        ({"order": ["a"]}, "order"),
        ({"exact": True}, "exact"),
        ({"aggregation_weights": {"a": 2.0}}, "aggregation_weights"),
    ],
)
def test_what_cannot_be_used_is_named(options, field):
    """At construction."""
    with pytest.raises(ConfigError) as caught:
        recipe(**options)
    assert caught.value.field == field


def test_an_order_of_sites_that_are_not_there_is_refused(tmp_path):
    """Before anything is started."""
    with pytest.raises(ConfigError, match="site-9"):
        recipe(order=["site-1", "site-9"]).execute(env(tmp_path))
