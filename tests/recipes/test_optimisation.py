"""What all algorithms for optimisation must hold: against their papers, and wherever they run."""

from __future__ import annotations

import numpy as np
import pytest

from flare_async import SimEnv
from flare_async.errors import ConfigError
from flare_async.recipes.ditto import DittoRecipe
from flare_async.recipes.fedopt import FedOptRecipe
from flare_async.recipes.fedprox import FedProxRecipe
from flare_async.recipes.qfedavg import QFedAvgRecipe
from flare_async.recipes.scaffold import ScaffoldRecipe
from tests.recipes import sites
from tests.recipes.turns import Turns
from tests.references import optimisation as papers

ADAM = {"path": "adam", "args": {"lr": 0.1}}
EVERY = range(4)
CASES = {
    "ditto": (DittoRecipe, sites.personal, {"ditto_lambda": 0.5}),
    "fedopt": (FedOptRecipe, sites.average, {"optimizer_args": ADAM}),
    "fedprox": (FedProxRecipe, sites.near, {"mu": 2.0}),
    "qfedavg": (QFedAvgRecipe, sites.fair, {"q": 2.0, "lr": 0.1}),
    "scaffold": (ScaffoldRecipe, sites.controlled, {"server_lr": 0.8}),
}
EXPECTED = {
    "ditto": lambda: papers.ditto(EVERY, 3, 0.5)[0],
    "fedopt": lambda: papers.fedopt(EVERY, 3, "adam", 0.1),
    "fedprox": lambda: papers.fedprox(EVERY, 3, 2.0),
    "qfedavg": lambda: papers.qfedavg(EVERY, 3, 2.0, 0.1),
    "scaffold": lambda: papers.scaffold([EVERY] * 3, 4, 0.8)[0],
}


def made(name, **options):
    """Return three rounds of an algorithm with four sites."""
    kind, train, own = CASES[name]
    model = {"w": papers.start().astype(options.pop("dtype", "float32"))}
    settings = {"model": model, "train": train, "min_clients": 4, "num_rounds": 3, **own}
    return kind(**{**settings, **options})


def run(recipe, tmp_path, *, check=True, **options):
    """Return the run of a recipe."""
    settings = {"num_clients": 4, "workers": "inline", "workspace_root": tmp_path, **options}
    return recipe.execute(SimEnv(**settings), check=check)


def weights(recipe, tmp_path, **options):
    """Return the weights after a run."""
    return run(recipe, tmp_path, **options).model.numpy()["w"]


@pytest.mark.parametrize("transfer", ["FULL", "DIFF"])
@pytest.mark.parametrize("name", sorted(CASES))
def test_each_algorithm_is_that_of_its_paper(tmp_path, name, transfer):
    """To 1e-6 in float32 and to 1e-12 in float64, against one process that knows all sites."""
    for dtype, most in (("float32", 1e-6), ("float64", 1e-12)):
        found = weights(made(name, dtype=dtype, params_transfer_type=transfer), tmp_path)
        assert np.abs(found - EXPECTED[name]()).max() < most


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_order_of_arrival_changes_no_bit(tmp_path, name):
    """Sums are in the order of the cohort."""
    found = set()
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        turns = Turns(CASES[name][1], order)
        digest = run(made(name, train=turns), tmp_path, num_threads=4).model.model_digest()
        assert [index for _, index in turns.arrived] == order * 3
        found.add(digest)
    assert len(found) == 1


@pytest.mark.parametrize("name", sorted(CASES))
def test_relays_change_nothing(tmp_path, name):
    """Relays that pass on give the same bits, those that add the same to 1e-6."""
    flat = run(made(name), tmp_path).model
    passed = run(made(name), tmp_path, relays=2).model
    added = weights(made(name), tmp_path, relays=2, relay_mode="reduce")
    assert passed.model_digest() == flat.model_digest()
    assert np.abs(added - flat.numpy()["w"]).max() < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CASES))
def test_links_and_workers_change_no_bit(tmp_path, name):
    """Memory and tcp, inline and in processes."""
    digests = {
        run(made(name), tmp_path, **options).model.model_digest()
        for options in (
            {},
            {"transport": "tcp"},
            {"workers": "process"},
            {"workers": "process", "transport": "tcp"},
        )
    }
    assert len(digests) == 1


class Failing:
    """Trains, but one site fails in the second round."""

    def __init__(self, train):
        self.train = train

    def __call__(self, model, site):
        """Train, or raise."""
        if (site.index, site.round_number) == (2, 1):
            raise RuntimeError("no more memory")
        return self.train(model, site)


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_site_that_fails_once_is_left_out_of_that_round_only(tmp_path, name):
    """The round goes on with the others, and the site with its old state."""
    recipe = made(name, train=Failing(CASES[name][1]), min_clients=3, dtype="float64")
    found = run(recipe, tmp_path)
    assert [record.arrived for record in found.history.rounds] == [4, 3, 4]
    assert np.isfinite(found.model.numpy()["w"]).all()


def test_controls_are_scaled_by_the_part_of_the_sites_that_answered(tmp_path):
    """With a failing site the model is still that of the paper."""
    recipe = made(
        "scaffold", train=Failing(sites.controlled), min_clients=3, dtype="float64", num_rounds=4
    )
    turns = [EVERY, [0, 1, 3], EVERY, EVERY]
    expected, control, own = papers.scaffold(turns, 4, 0.8)
    assert np.abs(weights(recipe, tmp_path) - expected).max() < 1e-12
    assert np.abs(control - sum(own.values()) / 4).max() < 1e-12


class Watching:
    """Trains with controls, and keeps what a site received and holds."""

    def __init__(self):
        self.received, self.own = {}, {}

    def __call__(self, model, site):
        """Train."""
        self.received[site.round_number] = model.meta[sites.CONTROL]["w"].copy()
        result = sites.controlled(model, site)
        self.own[site.round_number, site.index] = site.state["control"].pending.value["w"]
        return result


def test_the_servers_control_is_the_mean_of_the_sites_controls(tmp_path):
    """Also where some sites take part in some rounds only."""
    watching = Watching()
    recipe = made(
        "scaffold",
        train=watching,
        min_clients=2,
        clients_per_round=2,
        num_rounds=6,
        dtype="float64",
    )
    run(recipe, tmp_path, seed=3)
    last = {}
    for number in range(5):
        last |= {k: own for (at, k), own in watching.own.items() if at == number}
        assert np.abs(watching.received[number + 1] - sum(last.values()) / 4).max() < 1e-12
    assert len(last) > 2


def test_personal_models_are_those_of_the_paper(tmp_path):
    """They never leave their sites, but as metrics here."""
    _, own = papers.ditto(EVERY, 3, 0.5)
    metrics = run(made("ditto", dtype="float64"), tmp_path).history.rounds[-1].sites
    for k in EVERY:
        found = [metrics[k].metrics[f"own_{at}"] for at in range(3)]
        assert np.abs(found - own[k]).max() < 1e-12


def test_fedprox_without_a_term_and_qfedavg_without_an_exponent_are_the_plain_mean(tmp_path):
    """Their special cases."""
    plain = papers.fedprox(EVERY, 3, 0.0)
    for recipe in (made("fedprox", mu=0.0), made("qfedavg", q=0.0)):
        assert np.abs(weights(recipe, tmp_path) - plain).max() < 1e-6


@pytest.mark.parametrize(
    "options", [{"staging": "repull"}, {"exact": True}, {"accumulator": "float32"}]
)
def test_controls_are_summed_however_the_model_is(tmp_path, options):
    """They are tensors of the same set."""
    found = weights(made("scaffold", **options), tmp_path)
    assert np.abs(found - EXPECTED["scaffold"]()).max() < 1e-6


def test_excluded_tensors_have_no_control(tmp_path):
    """Nor a step: they keep their first values."""
    model = {"w": papers.start().astype(np.float32), "fixed": np.ones(2, np.float32)}
    recipe = made("scaffold", model=model, exclude_vars="fixed")
    found = run(recipe, tmp_path).model.numpy()
    assert recipe.stepped == ("w",)
    assert found["fixed"].tolist() == [1.0, 1.0]
    assert np.abs(found["w"] - EXPECTED["scaffold"]()).max() < 1e-6


def test_a_site_without_a_control_is_told_what_to_return(tmp_path):
    """The reason names the key."""
    found = run(made("scaffold", train=sites.average, min_clients=1), tmp_path, check=False)
    reason = found.history.rounds[0].sites[0].reason
    assert "meta['scaffold_c_diff'] is missing" in reason


def test_what_scaffold_holds_is_twice_a_mean():
    """Model and control, and a sum of each; float64 sums below 64 MB."""
    demand = made("scaffold").demand()
    assert (demand.model, demand.accumulator) == (2 * 12, 2 * 24)


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("ditto", {"ditto_lambda": -1.0}),
        ("fedprox", {"mu": float("nan")}),
        ("fedprox", {"mu": "much"}),
        ("scaffold", {"server_lr": 0.0}),
        ("scaffold", {"aggregation_weights": {"site-1": 2.0}}),
    ],
)
def test_what_cannot_be_used_is_refused(name, bad):
    """The error names the argument."""
    with pytest.raises(ConfigError) as caught:
        made(name, **bad)
    assert caught.value.field == next(iter(bad))
