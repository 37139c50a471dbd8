"""What a recipe of one's own may ask of its cohort: some sites or all, and files of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from flare_async import FLModel, SimEnv
from flare_async.errors import ConfigError, RunFailed
from flare_async.recipes import FedAvgRecipe


def same(model, site):
    """Return the model as it came."""
    return FLModel(params=model.params)


@dataclass(kw_only=True, eq=False)
class Own(FedAvgRecipe):
    """A recipe whose one round is what a test says."""

    body: Callable | None = None

    async def rounds(self, play):
        """Do as the test says."""
        await self.body(play.cohort, self.initial)


def played(folder, body):
    """Return the run of a recipe with that body, of two sites."""
    recipe = Own(model={"w": np.zeros(2)}, train=same, min_clients=1, num_rounds=1, body=body)
    return recipe.execute(SimEnv(num_clients=2, workers="inline", workspace_root=folder))


async def asked(cohort, model, **options):
    """Return who was asked in a round."""
    async with cohort.round(cohort.task(0, 1), model, **options) as updates:
        return [site async for site, _ in updates]


@pytest.mark.parametrize("sites", [(), []])
def test_a_round_of_no_sites_asks_nobody(tmp_path, sites):
    """An empty choice is a mistake, not everybody."""

    async def body(cohort, model):
        await asked(cohort, model, sites=sites)

    with pytest.raises(RunFailed, match="names no site"):
        played(tmp_path, body)


def test_a_round_without_a_choice_asks_all(tmp_path):
    """And one with a choice asks these."""
    found = []

    async def body(cohort, model):
        found.append(sorted(await asked(cohort, model)))
        found.append(await asked(cohort, model, sites=["site-2"]))

    played(tmp_path, body)
    assert found == [["site-1", "site-2"], ["site-2"]]


def test_a_recipe_keeps_files_of_its_own(tmp_path):
    """Also below a folder; the newest content stays."""
    kept = []

    async def body(cohort, model):
        await asked(cohort, model)
        contents = (b"first", memoryview(b"second"))
        kept.extend([await cohort.keep_file("tables/one.csv", content) for content in contents])

    run = played(tmp_path, body)
    assert kept == [run.folder / "tables" / "one.csv"] * 2
    assert kept[0].read_bytes() == b"second"
    assert [path.name for path in kept[0].parent.iterdir()] == ["one.csv"]


@pytest.mark.parametrize(
    "name", ["", ".", "/etc/x", "../x", "a/../../x", "history.jsonl", "./run.json"]
)
def test_names_that_leave_the_folder_or_are_taken_are_refused(tmp_path, name):
    """Nothing is written."""

    async def body(cohort, model):
        await asked(cohort, model)
        with pytest.raises(ConfigError, match="name"):
            await cohort.keep_file(name, b"x")

    run = played(tmp_path, body)
    assert (run.folder / "run.json").read_bytes() != b"x"
