"""A large first model is in memory for as long as a run needs it, and there whenever asked for."""

from __future__ import annotations

import dataclasses
import gc
import weakref

import numpy as np
import pytest

from flare_async import FLModel, SimEnv
from flare_async.errors import TransferError
from flare_async.recipes import CyclicRecipe, FedAvgRecipe, FedBNRecipe, NumpyFedAvgRecipe
from flare_async.recipes import first_model as module
from flare_async.recipes.first_model import FirstArrays, FirstModel, ModelFile
from flare_async.transfer import TensorSet

VALUES = 100_000


class Bell:
    """Sites that look, from the second round on, whether the first model is still there."""

    def __init__(self):
        self.recipe = None
        self.held = []

    def train(self, model, site):
        """Add one."""
        del site
        first = self.recipe._first
        self.held.append(first._tensors is not None or "initial" in vars(self.recipe))
        return FLModel(params={name: value + 1 for name, value in model.params.items()})


@pytest.fixture
def small_is_large(monkeypatch):
    """Take models of 400 kB for large ones."""
    monkeypatch.setattr(module, "LARGE_MODEL", 4 * VALUES)
    monkeypatch.setattr(module, "file_system_of", lambda folder: "ext4")


def made(kind=FedAvgRecipe, model=None, **options):
    """Return a recipe for two sites, and what they see."""
    bell = Bell()
    given = {"w": np.arange(VALUES, dtype=np.float32)} if model is None else model
    bell.recipe = kind(model=given, min_clients=2, train=bell.train, num_rounds=3, **options)
    return bell.recipe, bell


def played(recipe, folder):
    """Run a recipe with two sites."""
    return recipe.execute(SimEnv(num_clients=2, workspace_root=folder))


@pytest.mark.usefixtures("small_is_large")
@pytest.mark.parametrize("kind", [FedAvgRecipe, CyclicRecipe, NumpyFedAvgRecipe])
def test_the_first_model_is_gone_from_the_second_round_on(tmp_path, kind):
    """Both sites of the first round still find it."""
    array = np.arange(VALUES, dtype=np.float32)
    recipe, bell = made(kind, array if kind is NumpyFedAvgRecipe else None)

    played(recipe, tmp_path)

    assert bell.held == [True] * 2 + [False] * 4


@pytest.mark.usefixtures("small_is_large")
def test_a_recipe_that_let_go_runs_again_from_the_same_bits(tmp_path):
    """And so does a copy of it; the user's array may have changed meanwhile."""
    array = np.arange(VALUES, dtype=np.float32)
    recipe, _ = made(model={"w": array})
    digest = recipe.initial.model_digest()

    first = played(recipe, tmp_path / "a").model.model_digest()
    array[:] = 0
    again = played(recipe, tmp_path / "b").model.model_digest()
    copied = dataclasses.replace(recipe)

    assert first == again
    assert recipe.initial.model_digest() == copied.initial.model_digest() == digest


def test_a_small_model_stays(tmp_path):
    """A file costs more than it saves."""
    recipe, bell = made()

    played(recipe, tmp_path)

    assert bell.held == [True] * 6


@pytest.mark.usefixtures("small_is_large")
@pytest.mark.parametrize("options", [{"file_system": "tmpfs"}, {"disk": "full"}])
def test_a_model_that_cannot_be_put_away_stays(tmp_path, monkeypatch, options):
    """Files in memory save none; a full disk ends no run that needs no more of it."""

    def full(model, folder):
        raise TransferError("no room")

    if "disk" in options:
        monkeypatch.setattr(module, "ModelFile", full)
    else:
        monkeypatch.setattr(module, "file_system_of", lambda folder: "tmpfs")
    recipe, bell = made()

    played(recipe, tmp_path)

    assert bell.held == [True] * 6


def test_a_model_in_a_file_has_its_order_its_ties_and_empty_tensors(tmp_path):
    """And the file ends with the last who knows of it."""
    tied = np.arange(6.0)
    model = TensorSet.from_params({"z": tied, "a": np.zeros((0, 3)), "tied": tied}).copy()
    file = ModelFile(model, tmp_path)

    found = file.read()
    closed = weakref.ref(file._spool)
    del file
    gc.collect()

    assert list(found) == ["z", "a", "tied"]
    assert dict(found.aliases) == {"tied": "z"}
    assert found.model_digest() == model.model_digest()
    assert closed() is None


def test_arrays_of_a_first_model_are_read_when_they_are_asked_for(tmp_path):
    """They stand for the arrays that were given."""
    first = FirstModel(TensorSet.from_params({"a": np.ones(3), "b": np.zeros(2)}).copy())
    arrays = FirstArrays(first)
    assert not first.let_go()

    first.write(tmp_path)

    assert first.let_go()
    assert {name: array.sum() for name, array in arrays.items()} == {"a": 3.0, "b": 0.0}
    assert len(arrays) == 2


def test_an_instance_that_a_recipe_made_ends_with_its_construction():
    """The recipe keeps what it was told: the class."""
    pytest.importorskip("torch")
    described = {
        "class_path": "torch.nn.BatchNorm1d",
        "args": {"num_features": 4},
    }

    recipe, _ = made(FedBNRecipe, described, exclude_vars="none")

    assert recipe.model == described
    assert len(recipe.initial) == 5
