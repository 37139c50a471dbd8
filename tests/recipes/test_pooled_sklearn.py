"""Newton's logistic regression, k-means and SVM against the same of all data in one place."""

from __future__ import annotations

import itertools

import joblib
import numpy as np
import pytest

from flare_async import SimEnv
from flare_async.errors import ConfigError, QuorumNotReached, RunFailed
from flare_async.model import FLModel
from flare_async.recipes.kmeans import KMeansFedAvgRecipe
from flare_async.recipes.logistic_newton import FedAvgLrRecipe
from flare_async.recipes.svm import SVMFedAvgRecipe
from tests.recipes import pooled_sites as sites
from tests.recipes.turns import Turns
from tests.references import pooled_sklearn as pooled

SITES, SEED, EXACT = 3, 11, 1e-9
ALL = range(SITES)


def newton(train=sites.slopes, **options):
    """Return the recipe of a regression."""
    given = {"num_features": pooled.FEATURES, "num_rounds": 4, "l2": 0.5, "min_clients": 2}
    return FedAvgLrRecipe(train=train, **{**given, **options})


def kmeans(train=sites.clusters, **options):
    """Return the recipe of a clustering."""
    return KMeansFedAvgRecipe(train=train, **{"min_clients": 2, "num_rounds": 4, **options})


def svm(train=sites.vectors, **options):
    """Return the recipe of a support vector machine."""
    return SVMFedAvgRecipe(train=train, **{"min_clients": 2, **options})


TRAINS = {newton: sites.slopes, kmeans: sites.clusters, svm: sites.vectors}


def expected(recipe, chosen=ALL):
    """Return what the same arithmetic makes of the data of some sites."""
    tumours = [pooled.tumours(index, SITES) for index in chosen]
    if recipe is newton:
        return pooled.newton(tumours, 4, 0.8, 0.5, 1.0)[:, None]
    if recipe is kmeans:
        parts = [(index, pooled.flowers(index, SITES)) for index in chosen]
        return pooled.centers(parts, 4, SEED)
    return pooled.support(tumours, "rbf")[0]


def found(run):
    """Return the tensor that a recipe is about."""
    arrays = run.model.numpy()
    return next(arrays[name] for name in ("numpy_key", "center", "support_x") if name in arrays)


@pytest.fixture
def play(tmp_path):
    """Return a function that runs a recipe and returns its run."""

    def run(recipe, **options):
        given = {"workers": "inline", "seed": SEED, "workspace_root": tmp_path, **options}
        return recipe.execute(SimEnv(num_clients=SITES, **given))

    return run


@pytest.mark.parametrize("recipe", TRAINS)
def test_the_result_is_that_of_all_data_together(play, recipe):
    """To 1e-9 in float64: sums of sites are the sums of their samples."""
    np.testing.assert_allclose(found(play(recipe())), expected(recipe), rtol=0, atol=EXACT)


def test_newton_reaches_the_coefficients_of_scikit_learn(play):
    """With l2 = 1/C, undamped and without a ridge that only shortens steps."""
    run = play(newton(num_rounds=10, damping_factor=1.0, epsilon=0.0))
    wanted = pooled.logistic([pooled.tumours(index, SITES) for index in ALL], 0.5)
    np.testing.assert_allclose(found(run)[:, 0], wanted, rtol=0, atol=1e-6)


def test_the_damping_of_newton_changes_the_way_and_not_the_end(play):
    """Its fixed point is where the gradient is zero."""
    run = play(newton(num_rounds=25, damping_factor=0.8, epsilon=0.1))
    wanted = pooled.logistic([pooled.tumours(index, SITES) for index in ALL], 0.5)
    np.testing.assert_allclose(found(run)[:, 0], wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("recipe", TRAINS)
def test_the_order_of_arrival_changes_no_bit(play, recipe):
    """Answers are taken in the order of the cohort."""
    digests = set()
    for order in itertools.islice(itertools.permutations(ALL), 0, None, 2):
        train = Turns(TRAINS[recipe], list(order))
        digests.add(play(recipe(train), num_threads=SITES).model.model_digest())
        assert [index for number, index in train.arrived if number == 0] == list(order)
    assert len(digests) == 1


@pytest.mark.sweep
@pytest.mark.slow
@pytest.mark.parametrize("recipe", TRAINS)
@pytest.mark.parametrize(
    "way",
    [
        {"relays": 2},
        {"transport": "tcp"},
        {"workers": "process", "num_threads": 1},
        {"relays": 2, "relay_mode": "reduce", "transport": "tcp"},
    ],
    ids=["relays", "tcp", "process", "reduce"],
)
def test_relays_transports_and_workers_change_nothing(play, recipe, way):
    """Adding relays agree to rounding, all else to the bit."""
    flat, other = play(recipe()), play(recipe(), **way)
    np.testing.assert_allclose(found(other), found(flat), rtol=0, atol=1e-12)
    if "relay_mode" not in way:
        assert other.model.model_digest() == flat.model.model_digest()


@pytest.mark.parametrize("recipe", TRAINS)
def test_a_failing_site_is_as_if_its_samples_were_not_there(play, recipe):
    """The quorum of two is enough."""
    run = play(recipe(sites.failing(TRAINS[recipe])))
    left = [index for index in ALL if index != sites.FAILING]
    np.testing.assert_allclose(found(run), expected(recipe, left), rtol=0, atol=EXACT)
    statuses = [str(site.status) for site in run.history.rounds[0].sites]
    assert statuses == ["ok", "failed", "ok"]


@pytest.mark.parametrize("kernel", ["linear", "poly", "sigmoid"])
def test_every_kernel_gives_the_vectors_of_the_cascade(play, kernel):
    """Vectors and labels, to the bit: nothing is computed with them."""
    run = play(svm(kernel=kernel))
    wanted = pooled.support([pooled.tumours(index, SITES) for index in ALL], kernel)
    for name, array in zip(("support_x", "support_y"), wanted, strict=True):
        np.testing.assert_array_equal(run.model.numpy()[name], array)


@pytest.mark.parametrize(
    ("recipe", "file"),
    [(newton, "models/weights.npy"), (kmeans, "model_param.joblib"), (svm, "model_param.joblib")],
)
def test_results_are_under_the_names_that_users_know(play, recipe, file):
    """With the values of the run's model."""
    run = play(recipe())
    path = run.get_result() / file
    if path.suffix == ".npy":
        arrays = {"numpy_key": np.load(path)}
    else:
        arrays = joblib.load(path)
        assert arrays.pop("kernel", "rbf") == "rbf"
    for name, array in run.model.numpy().items():
        np.testing.assert_array_equal(arrays.pop(name), array)
    assert arrays == {}


def test_an_svm_is_evaluated_in_round_one(play):
    """By every site, on the vectors of all."""
    run = play(svm(evaluate=sites.judged))
    assert [row.task for row in run.history.rounds] == ["train", "validate"]
    assert run.history.rounds[1].metrics["AUC"] > 0.9
    assert run.best_model.model_digest() == run.model.model_digest()


def test_metrics_of_clusters_belong_to_the_centres_that_were_sent(play):
    """Round 0 sends none, so it judges none; the best are kept."""
    run = play(kmeans())
    assert [model.version for model in run.history.models] == [1, 2, 3]
    values = [model.metrics["metrics"] for model in run.history.models]
    assert values == sorted(values)


def test_clusters_can_begin_with_given_centres(play, tmp_path):
    """Then rounds are numbered from 1 and the first centres count nothing."""
    run = play(kmeans(num_rounds=2))
    file = run.get_result() / "FL_global_model.safetensors"
    again = play(kmeans(num_rounds=2, model_path=str(file)))
    assert [row.number for row in again.history.rounds] == [1]
    parts = [pooled.local_step(pooled.flowers(i, SITES), found(run)) for i in ALL]
    total = sum(center * count[:, None] for center, count in parts)
    wanted = total / sum(count for _, count in parts)[:, None]
    np.testing.assert_allclose(found(again), wanted, rtol=0, atol=EXACT)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"gradient": np.zeros((7, 1))}, "params lack 'hessian'"),
        ({"gradient": np.zeros((7, 1)), "hessian": np.zeros((6, 6))}, "shape"),
        ({"gradient": np.full((7, 1), np.nan), "hessian": np.eye(7)}, "finite"),
        ({"gradient": np.zeros((7, 1), str), "hessian": np.eye(7)}, "numbers are needed"),
    ],
)
def test_an_answer_that_fits_no_slot_fails_its_site(play, params, words):
    """The message says what was wrong with it."""

    def train(model, site):
        return FLModel(params=dict(params)) if site.index == 0 else sites.slopes(model, site)

    run = play(newton(train, num_rounds=1))
    assert words in run.history.rounds[0].sites[0].reason


@pytest.mark.parametrize(
    ("recipe", "params", "words"),
    [
        (kmeans, {"center": np.zeros(4)}, "rows are needed"),
        (kmeans, {"center": np.zeros((300, 300))}, "room for 65536"),
        (svm, {"support_x": np.zeros((2, 3)), "support_y": np.zeros(3)}, "one label a row"),
    ],
)
def test_an_answer_that_makes_no_sense_refuses_its_site(play, recipe, params, words):
    """The others are enough."""

    def train(model, site):
        bad = site.index == 0 and model.current_round == 0
        return FLModel(params=dict(params)) if bad else TRAINS[recipe](model, site)

    run = play(recipe(train))
    assert words in run.history.rounds[0].sites[0].reason


def test_negative_counts_are_refused(play):
    """They would turn a mean into anything."""

    def train(model, site):
        answer = sites.clusters(model, site)
        if site.index == 0 and model.current_round:
            answer.params["count"] = np.array([1, -1, 1])
        return answer

    run = play(kmeans(train, num_rounds=2))
    assert "count is [1.0, -1.0, 1.0]" in run.history.rounds[1].sites[0].reason


def test_too_few_answers_end_the_run(play):
    """With the quorum that was asked for."""
    with pytest.raises(RunFailed) as caught:
        play(svm(sites.failing(sites.vectors), min_clients=3))
    assert isinstance(caught.value.__cause__, QuorumNotReached)


@pytest.mark.parametrize(
    ("recipe", "options", "field"),
    [
        (newton, {"damping_factor": 0.0}, "damping_factor"),
        (newton, {"l2": -1.0}, "l2"),
        (newton, {"num_features": 0}, "num_features"),
        (newton, {"params_transfer_type": "DIFF"}, "params_transfer_type"),
        (newton, {"aggregation_weights": {"site-1": 2.0}}, "aggregation_weights"),
        (kmeans, {"n_clusters": 0}, "n_clusters"),
        (kmeans, {"model": {"center": np.zeros((3, 4))}}, "model"),
        (kmeans, {"exact": True}, "exact"),
        (svm, {"clients_per_round": 1}, "clients_per_round"),
        (svm, {"kernel": "precomputed"}, "kernel"),
        (svm, {"model_path": "/nowhere/model.joblib"}, "model_path"),
    ],
)
def test_what_cannot_be_used_is_named(recipe, options, field):
    """When the recipe is made."""
    with pytest.raises(ConfigError) as caught:
        recipe(**options)
    assert caught.value.field == field


def test_a_singular_hessian_says_what_helps(play):
    """Not every regression has a solution."""

    def train(model, site):
        return FLModel(params={"gradient": np.ones((7, 1)), "hessian": np.zeros((7, 7))})

    with pytest.raises(RunFailed, match="singular"):
        play(newton(train, epsilon=0.0, l2=0.0))
