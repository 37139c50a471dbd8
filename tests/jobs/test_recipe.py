"""What every recipe checks and offers, whatever its algorithm; and its means to run rounds."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flare_async import SimEnv
from flare_async.errors import ConfigError
from flare_async.jobs.metrics import by_key
from flare_async.jobs.recipe import NAME, Recipe, positive
from flare_async.jobs.work import Work
from flare_async.model import FLModel
from flare_async.transfer.files import read_file
from flare_async.transfer.tensors import TensorSet


def add_one(model, site):
    """Add one and tell the round's meta back."""
    meta = {"seen": model.meta.get("ask", 0.0)}
    return FLModel(params={"w": model.params["w"] + 1}, metrics={"m": site.index}, meta=meta)


class Sums(Recipe):
    """A recipe as users write their own: one round, without a reducer."""

    def __init__(self, *, name="sums", min_clients=1, num_rounds=1):
        self.name, self.min_clients, self.num_rounds = name, min_clients, num_rounds
        self.seen = []
        self.check_basics()

    def work(self, site):
        """Return what the sites do."""
        return Work(add_one)

    async def coordinate(self, cohort):
        """Add up what the sites return."""
        model = TensorSet.from_params({"w": np.zeros(2, np.float32)})
        task = cohort.task(0, 1, meta={"ask": 5.0})
        total = np.zeros(2, np.float32)
        async with cohort.recording(task, cohort.sites, 1) as record:
            async with cohort.round(task, model, quorum=1) as updates:
                async for site, update in updates:
                    self.seen.append((site, dict(update.meta), dict(update.metrics)))
                    total += update.tensors.numpy()["w"]
            result = TensorSet.from_params({"w": total})
            for version, score in enumerate((0.5, 0.7, 0.6)):
                await cohort.evaluated(result, version, {"acc": score}, by_key("acc"))
            await cohort.checkpoint(result, 1)
            record.metrics = {"m": float("nan")}


def execute(recipe, root, **options):
    """Run a recipe with three sites."""
    env = SimEnv(num_clients=3, workers="inline", workspace_root=root, **options)
    return recipe.execute(env)


def test_a_recipe_of_ones_own_runs_and_keeps_its_results(tmp_path):
    """An ``async for`` over the updates is all that an algorithm is."""
    recipe = Sums()
    run = execute(recipe, tmp_path)
    assert run.model.numpy()["w"].tolist() == [3, 3]
    assert sorted(recipe.seen) == [
        (f"site-{i + 1}", {"seen": 5.0}, {"m": float(i)}) for i in range(3)
    ]
    assert read_file(run.folder / "FL_global_model.safetensors").model_digest() == (
        run.model.model_digest()
    )
    assert sorted(path.suffix for path in run.folder.iterdir()) == [
        ".json",
        ".jsonl",
        ".safetensors",
        ".safetensors",
    ]


def test_rounds_are_recorded_in_the_order_of_the_cohort(tmp_path):
    """Whatever the order of arrival; what JSON lacks is null in the file."""
    run = execute(Sums(), tmp_path, num_threads=3)
    (record,) = run.history.rounds
    assert [site.site for site in record.sites] == ["site-1", "site-2", "site-3"]
    line = json.loads((run.folder / "history.jsonl").read_text())
    assert (line["metrics"], line["arrived"]) == ({"m": None}, 3)
    assert all(0 <= site.started <= site.ended <= record.ended for site in record.sites)


def test_the_best_version_is_kept_as_a_file(tmp_path):
    """A later one that is not better does not replace it."""
    run = execute(Sums(), tmp_path)
    assert [model.best for model in run.history.models] == [True, True, False]
    document = json.loads((run.folder / "run.json").read_text())
    assert (document["best_version"], document["best_metrics"]) == (1, {"acc": 0.7})


def test_a_recipe_without_a_torch_model_leaves_no_torch_file():
    """``torch_filename`` is for those that have one."""
    assert Sums().torch_filename is None


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"name": "a/b"}, "name"),
        ({"name": "-a"}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"name": 3}, "name"),
        ({"min_clients": 0}, "min_clients"),
        ({"num_rounds": -1}, "num_rounds"),
    ],
)
def test_basics_are_checked(options, field):
    """Name, clients and rounds; the error names the field and the value."""
    with pytest.raises(ConfigError) as caught:
        Sums(**options)
    assert (caught.value.field, caught.value.value) == (field, options[field])


@given(st.from_regex(NAME, fullmatch=True))
def test_a_name_that_is_taken_is_a_folder_of_its_own(name):
    """It never leaves the workspace."""
    assert Sums(name=name).name == name
    assert "/" not in name
    assert name not in {".", ".."}


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "1", None])
def test_only_integers_above_zero_are_positive(value):
    """Truth values are no counts."""
    with pytest.raises(ConfigError, match="x="):
        positive("x", value)
    assert positive("x", 1) == 1
