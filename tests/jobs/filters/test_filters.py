"""Filters around a round: where they run, on what, in which order, and what becomes of a fault."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flare_async.model import FLModel
from flare_async.recipes import FedAvgRecipe, FedBuffRecipe, add_cross_site_evaluation
from flare_async.recipes.logistic_newton import FedAvgLrRecipe
from flare_async.recipes.svm import SVMFedAvgRecipe
from flare_async.transfer.files import read_file
from flare_async.transfer.filters import (
    ExcludeVars,
    GaussianDP,
    ModelDequantizer,
    ModelQuantizer,
    PercentilePrivacy,
    SVTPrivacy,
)
from tests.jobs.filters.functions import Adds, Doubles, mean_of, train
from tests.recipes import pooled_sites

SITES = 3
FOLDER = Path(__file__).resolve().parent
PLACES = ("client_input", "client_output", "server_input", "server_output")
LARGE = 1_200_000  # values: more than what is made at once


def weights(run):
    """Return the model's float32 tensor."""
    return run.model.numpy()["w"]


def quantised(kind):
    """Return what makes every transfer small, there and back."""
    return (
        ("server_output", ModelQuantizer(kind)),
        ("client_input", ModelDequantizer()),
        ("client_output", ModelQuantizer(kind)),
        ("server_input", ModelDequantizer()),
    )


def test_each_place_sees_its_tensors_of_each_round(play):
    """Whole models on the way down, each site's update on the way up; site "" is the server."""
    filters = {place: Adds(0.0) for place in PLACES}
    run = play(*filters.items())
    everybody = [("train", f"site-{at}", number, "FULL") for number in (0, 1) for at in (1, 2, 3)]
    for place in ("client_input", "client_output", "server_input"):
        assert filters[place].passed == everybody
    assert filters["server_output"].passed == [("train", "", number, "FULL") for number in (0, 1)]
    np.testing.assert_array_equal(weights(run), weights(play()))


def test_a_chain_runs_in_the_order_in_which_it_was_made(play):
    """(w + 1) * 2 is not w * 2 + 1."""
    plain = weights(play(recipe=one_round()))
    first = weights(
        play(("client_output", Adds(1)), ("client_output", Doubles()), recipe=one_round())
    )
    then = weights(
        play(("client_output", Doubles()), ("client_output", Adds(1)), recipe=one_round())
    )
    np.testing.assert_allclose(first, (plain + 1) * 2, atol=1e-6)
    np.testing.assert_allclose(then, plain * 2 + 1, atol=1e-6)


def one_round(**options):
    """Return a recipe of one round whose sites return what they received."""
    model = {"w": np.arange(5, dtype=np.float32)}
    given = {"train": lambda model, site: FLModel(params=dict(model.params)), **options}
    return FedAvgRecipe(model=model, min_clients=2, **{"num_rounds": 1, **given})


@pytest.mark.parametrize("place", PLACES)
def test_every_place_changes_the_result_once(play, place):
    """Whoever adds 1 to the model or to every update adds 1 to their mean."""
    run = play((place, Adds(1)), recipe=one_round())
    np.testing.assert_allclose(weights(run), np.arange(5) + 1)


def test_filters_run_for_the_tasks_and_sites_that_were_named(play):
    """Others pass."""
    trains, validates = Adds(1), Adds(5)
    recipe = one_round(evaluate=mean_of)
    run = play(
        ("client_input", trains, ["train"], ["site-2"]),
        ("client_input", validates, ["validate"]),
        recipe=recipe,
    )
    assert [entry[:2] for entry in trains.passed] == [("train", "site-2")]
    assert [entry[:2] for entry in validates.passed] == [
        ("validate", f"site-{n}") for n in (1, 2, 3)
    ]
    last = run.history.rounds[-1].metrics["accuracy"]
    assert last == pytest.approx(weights(run).mean() + 5)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "blockwise8"])
def test_quantised_transfers_are_smaller_and_near(play, kind):
    """In both directions; the model stays what it was at server and sites."""
    plain, small = play(size=50_000), play(*quantised(kind), size=50_000)
    share = {"float16": 0.5, "bfloat16": 0.5, "blockwise8": 0.254}[kind]
    for of in ("bytes_up", "bytes_down"):
        before, after = (getattr(run.history.rounds[0].sites[0], of) for run in (plain, small))
        assert after == pytest.approx(before * share, rel=0.02)
    assert small.model.specs == plain.model.specs
    assert np.abs(weights(small) - weights(plain)).max() < 0.03


@pytest.mark.slow
@pytest.mark.parametrize(
    "filters",
    [
        quantised("blockwise8"),
        (("client_output", GaussianDP(1.0, 0.1)),),
        (
            ("client_output", PercentilePrivacy()),
            ("client_output", ModelQuantizer()),
            ("server_input", ModelDequantizer()),
        ),
        (("client_output", SVTPrivacy()),),
    ],
    ids=["quantised", "gaussian", "percentile", "svt"],
)
def test_ways_and_workers_and_sizes_change_no_bit(play, filters):
    """Made at once or when it is sent, by reference or over tcp, through relays, in processes."""
    ways = ({}, {"transport": "tcp"}, {"relays": 2}, {"workers": "process", "num_threads": 1})
    digests = {play(*filters, **way).model.model_digest() for way in ways}
    assert len(digests) == 1


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_trainer_processes_are_filtered_as_threads_are(play):
    """Though they may train in the pages of the model that they received."""
    added = (
        ("client_output", GaussianDP(1.0, 0.01)),
        ("client_output", ExcludeVars(["intercept"])),
        *quantised("blockwise8")[2:],
    )

    def recipe(*, external):
        return FedAvgRecipe(
            model={"coef": np.zeros((10, 64)), "intercept": np.zeros(10)},
            min_clients=SITES,
            train_script=FOLDER / "in_place_script.py",
            launch_external_process=external,
        )

    ways = ((False, "memory"), (True, "memory"), (True, "tcp"))
    runs = [
        play(*added, recipe=recipe(external=ext), transport=way, workers="thread")
        for ext, way in ways
    ]
    assert len({run.model.model_digest() for run in runs}) == 1
    assert not runs[0].model.numpy()["intercept"].any()


@pytest.mark.slow
@pytest.mark.parametrize(
    "filters",
    [quantised("blockwise8"), (("client_output", GaussianDP(1.0, 0.1)),)],
    ids=["quantised", "gaussian"],
)
def test_large_updates_are_made_when_they_are_sent(play, filters):
    """The same bits in memory and over tcp, beyond what is made at once."""
    ways = ({}, {"transport": "tcp"})
    runs = [play(*filters, size=LARGE, **way) for way in ways]
    assert runs[0].model.model_digest() == runs[1].model.model_digest()


def test_relays_that_add_do_so_before_filters_of_the_server_only(play):
    """With filters of sites relays add; with the server's every update comes by itself."""
    reduce = {"relays": 2, "relay_mode": "reduce", "transport": "tcp"}
    noisy = (("client_output", GaussianDP(1.0, 0.1)),)
    np.testing.assert_allclose(weights(play(*noisy, **reduce)), weights(play(*noisy)), atol=1e-6)
    small = quantised("float16")
    assert play(*small, **reduce).model.model_digest() == play(*small).model.model_digest()


def test_seeds_decide_the_noise(play):
    """Of a simulation."""
    noisy = (("client_output", GaussianDP(1.0, 0.1)),)
    same = [play(*noisy, seed=seed).model.model_digest() for seed in (1, 1, 2)]
    assert same[0] == same[1] != same[2]


def test_whole_weights_become_a_difference_where_a_filter_needs_one(play):
    """So that a clipped update is a small step, and not a small model."""
    plain, clipped = play(), play(("client_output", GaussianDP(1e-6, 1e-6)))
    assert np.abs(weights(clipped) - np.linspace(-1, 1, 1000)).max() < 1e-5
    assert np.abs(weights(plain) - np.linspace(-1, 1, 1000)).max() > 0.1


def test_excluded_tensors_stay_as_they_were(play):
    """Whether whole weights are sent or differences."""
    run = play(("client_output", ExcludeVars(["b"])))
    np.testing.assert_array_equal(run.model.numpy()["b"], np.ones((2, 2)))
    assert np.abs(weights(run) - np.linspace(-1, 1, 1000)).max() > 0.1


def test_recipes_without_a_sum_are_filtered_too(play):
    """Support vectors through quantised transfers: 16 bits of each value are left."""
    recipe = SVMFedAvgRecipe(train=pooled_sites.vectors, min_clients=2, max_values=5000)
    filters = (("client_output", ModelQuantizer()), ("server_input", ModelDequantizer()))
    found = play(*filters, recipe=recipe).model.numpy()["support_x"]
    np.testing.assert_array_equal(found, found.astype(np.float16).astype(np.float64))


@pytest.mark.parametrize("kind", ["float16", "blockwise8"])
def test_updates_without_rounds_are_filtered_too(play, kind):
    """Asynchronous recipes: the same versions form, of nearly the same updates."""

    def recipe():
        model = {"w": np.linspace(-1, 1, 3000, dtype=np.float32)}
        return FedBuffRecipe(train=train, model=model, min_clients=2, num_rounds=3, buffer_size=2)

    plain, small = play(recipe=recipe()), play(*quantised(kind), recipe=recipe())
    assert 0 < np.abs(weights(small) - weights(plain)).max() < 0.05
    sites = [[run.history.rounds[0].sites[0].bytes_up for run in (plain, small)]]
    assert all(after < 0.51 * before for before, after in sites)


def test_models_that_are_kept_for_evaluation_are_those_behind_the_filters(play):
    """Cross-site evaluation of quantised updates: whole models of every site."""
    recipe = one_round(train=train, evaluate=mean_of)
    add_cross_site_evaluation(recipe)
    run = play(*quantised("float16"), recipe=recipe)
    files = sorted((run.get_result() / "cross_site_val").rglob("site-*.safetensors"))
    assert [read_file(file).spec("w").dtype for file in files] == ["F32"] * SITES


def test_answers_in_slots_can_have_noise(play):
    """Gradient and Hessian are what such a site has changed."""
    recipe = FedAvgLrRecipe(train=pooled_sites.slopes, min_clients=2, num_features=6, num_rounds=3)
    run = play(("client_output", GaussianDP(1000.0, 1e-6)), recipe=recipe)
    exact = FedAvgLrRecipe(train=pooled_sites.slopes, min_clients=2, num_features=6, num_rounds=3)
    wanted = play(recipe=exact).model.numpy()["numpy_key"]
    error = np.abs(run.model.numpy()["numpy_key"] - wanted).max()
    assert 0 < error < 0.01
