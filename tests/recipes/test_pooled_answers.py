"""Answers of sites that cannot be put together, and what they need of the server's memory."""

from __future__ import annotations

import numpy as np
import pytest

from flare_async import SimEnv
from flare_async.errors import RunFailed
from flare_async.model import FLModel
from tests.recipes.test_pooled_sklearn import kmeans, newton, svm


@pytest.fixture
def play(tmp_path):
    """Return a function that runs a recipe."""

    def run(recipe):
        return recipe.execute(SimEnv(num_clients=3, workers="inline", workspace_root=tmp_path))

    return run


def turned(columns=4, label=None, centers=3):
    """Return functions whose first site sends other rows than the others, or all the same label."""

    def clusters(model, site):
        rows = np.random.default_rng(site.index).random((centers, columns - (site.index == 0)))
        return FLModel(params={"center": rows})

    def vectors(model, site):
        rows = np.random.default_rng(site.index).random((4, columns))
        return FLModel(params={"support_x": rows, "support_y": np.full(4, label)})

    return clusters if label is None else vectors


def few(model, site):
    """Return one centre."""
    return FLModel(params={"center": np.full((1, 4), float(site.index))})


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: kmeans(turned()), r"'center' has 3 columns at site-1, 4 at site-2"),
        (lambda: kmeans(turned(columns=1, centers=0)), "rows are needed"),
        (lambda: kmeans(few, n_clusters=90), r"n_clusters=90: the sites have sent 3 first"),
        (lambda: svm(turned(label=2)), r"all \d+ support vectors are labelled 2"),
    ],
)
def test_answers_that_cannot_be_put_together_end_the_run(play, made, words):
    """The message has who sent what, or the argument to change."""
    with pytest.raises(RunFailed, match=words):
        play(made())


def test_a_step_that_is_not_finite_ends_the_run(play):
    """Weights that are no numbers would reach every site otherwise."""

    def train(model, site):
        return FLModel(params={"gradient": np.full((7, 1), 1e300), "hessian": 1e-300 * np.eye(7)})

    with pytest.raises(RunFailed, match=r"epsilon=0.0: .* not finite; give more"):
        play(newton(train, epsilon=0.0, l2=0.0))


def test_the_room_for_answers_is_planned_for():
    """Of every site, as it came and what is taken out of it; a Hessian counts as a model does."""
    plans = [kmeans(max_values=1000), svm(max_values=1000, max_support=100), newton(num_features=9)]
    demands = [recipe.demand() for recipe in plans]
    assert [(one.model, one.answers) for one in demands] == [
        (8000, 16_000),
        (8800, 17_600),
        (960, 0),
    ]
