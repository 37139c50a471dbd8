"""A user's recipe with a bug fails with a message that names the line in the user's file."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass, field

import numpy as np
import pytest

from flare_async import FLModel, SimEnv
from flare_async.errors import RunFailed
from flare_async.jobs.places import place_of, place_of_error
from flare_async.jobs.recipe import Recipe
from flare_async.jobs.work import Work
from flare_async.recipes import FedAvgRecipe
from flare_async.transfer.tensors import TensorSet

MODEL = TensorSet.from_params({"w": np.zeros(2, np.float32)})


def train(model, site):
    """Return what came."""
    return FLModel(params=model.params)


@dataclass(kw_only=True, eq=False)
class Mine(Recipe):
    """A recipe whose ``coordinate`` is given."""

    body: object
    min_clients: int = 2
    num_rounds: int = 1
    name: str = "mine"
    work_of_sites: object = field(default=train)

    def work(self, site):
        return Work(self.work_of_sites)

    def coordinate(self, cohort):
        return self.body(cohort)


class Forgetful(Mine):
    """A recipe that awaits nothing."""

    async def coordinate(self, cohort):
        cohort.round(cohort.task(0, 1), MODEL)


async def asks_nobody(cohort):
    """Send to a site that does not exist."""
    async with cohort.round(cohort.task(0, 1), MODEL, sites=["nobody"]) as updates:
        async for _ in updates:
            pass


async def adds_wrong_shapes(cohort):
    """Sum what cannot be summed."""
    async with cohort.round(cohort.task(0, 1), MODEL) as updates:
        async for _, update in updates:
            np.zeros(3) + update.tensors.numpy()["w"]


async def iterates_without_async(cohort):
    """Forget a word."""
    async with cohort.round(cohort.task(0, 1), MODEL) as updates:
        for _ in updates:
            pass


def message_of(recipe, tmp_path):
    """Return what a failing run says."""
    with pytest.raises(RunFailed) as caught:
        recipe.execute(SimEnv(num_clients=2, workers="inline", workspace_root=tmp_path))
    return str(caught.value)


def line_of(function, words):
    """Return where words stand in a function."""
    lines, first = inspect.getsourcelines(function)
    at = next(number for number, line in enumerate(lines, first) if words in line)
    return f"{__file__}, line {at}, in {function.__qualname__}"


@pytest.mark.parametrize(
    ("body", "line", "words"),
    [
        (asks_nobody, "async with", "nobody"),
        (adds_wrong_shapes, "np.zeros(3)", "broadcast"),
        (iterates_without_async, "for _ in updates", "iterable"),
    ],
)
def test_an_error_in_coordinate_names_its_line(tmp_path, body, line, words):
    """An unknown site, wrong shapes, a missing word."""
    said = message_of(Mine(body=body), tmp_path)
    assert words in said
    assert line_of(body, line) in said


def test_a_recipe_that_awaits_nothing_is_named(tmp_path):
    """Nobody was asked, so nothing can have come."""
    said = message_of(Forgetful(body=None), tmp_path)
    assert "ended without asking any site" in said
    assert "async with" in said
    assert line_of(Forgetful.coordinate, "async def coordinate") in said


def test_a_coordinate_that_is_not_async_is_named(tmp_path):
    """Python would say that an object cannot be awaited, and not whose."""
    said = message_of(Mine(body=lambda cohort: None), tmp_path)
    assert "returned NoneType" in said
    assert line_of(Mine.coordinate, "def coordinate") in said


def wrong_shape(model, site):
    """Return one value too few."""
    return FLModel(params={"w": np.zeros(1, np.float32)})


@pytest.mark.parametrize("workers", ["inline", "thread", "process"])
def test_a_train_function_with_a_wrong_result_is_named(tmp_path, workers):
    """The site's reason says which function, wherever it ran."""
    recipe = FedAvgRecipe(model={"w": np.zeros(2)}, min_clients=2, train=wrong_shape)
    run = recipe.execute(
        SimEnv(num_clients=2, workers=workers, workspace_root=tmp_path), check=False
    )
    reasons = run.history.failed_sites()
    assert reasons  # of the other site nothing was waited for
    assert all(line_of(wrong_shape, "def wrong_shape") in reason for reason in reasons.values())


def test_the_reason_is_in_the_summary_too(tmp_path):
    """``run.explain()`` is what people print."""
    recipe = Mine(body=asks_nobody)
    run = recipe.execute(SimEnv(num_clients=2, workspace_root=tmp_path), check=False)
    assert line_of(asks_nobody, "async with") in run.explain()


def test_places_of_ours_and_of_libraries_are_none():
    """Only a user's own file is of help."""
    assert place_of(TensorSet.from_params) is None
    assert place_of(np.median) is None
    assert place_of(len) is None
    assert place_of(None) is None
    assert place_of(functools.partial(train)).endswith("in train")


def test_a_group_names_the_line_of_its_first_error():
    """Users have task groups too."""
    with pytest.raises(ExceptionGroup) as caught:
        raise_in_group()
    assert "in raise_deep" in place_of_error(caught.value)


def raise_deep():
    """Raise where it matters."""
    raise KeyError("deep")


def raise_in_group():
    """Raise a group of one."""
    try:
        raise_deep()
    except KeyError as exc:
        raise ExceptionGroup("many", [exc]) from None
