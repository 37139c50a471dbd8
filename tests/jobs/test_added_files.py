"""Files that are added to a recipe are found where its code runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flare_async import SimEnv
from flare_async.errors import ConfigError, RunFailed
from flare_async.jobs.recipe import Recipe
from flare_async.jobs.site import Site, SiteInfo
from flare_async.recipes import FedAvgRecipe
from tests.jobs import files_code

SCRIPT = Path(__file__).with_name("files_script.py")


@pytest.fixture
def numbers(tmp_path):
    """Return the path of a file with three numbers."""
    path = tmp_path / "numbers.txt"
    path.write_text("1 2 3")
    return path


def recipe_of(**options):
    """Return a recipe of one round."""
    given = {"model": {"w": np.zeros(3, np.float32)}, "min_clients": 2, "num_rounds": 1}
    return FedAvgRecipe(**{**given, **options})


def result(recipe, root, **options):
    """Return the weights of a run."""
    env = SimEnv(num_clients=2, workspace_root=root, **options)
    return recipe.execute(env).model.numpy()["w"].tolist()


@pytest.mark.parametrize("workers", ["inline", "thread", "process"])
def test_a_function_finds_its_file(tmp_path, numbers, workers):
    """Wherever it runs."""
    recipe = recipe_of(train=files_code.train)
    recipe.add_client_file(numbers)
    assert result(recipe, tmp_path, workers=workers) == [1, 2, 3]


@pytest.mark.parametrize("external", [False, True])
def test_a_script_finds_its_file(tmp_path, numbers, external):
    """By its name, and as an argument; in a thread and in a process of its own."""
    options = {"train_args": "{file:numbers.txt}", "launch_external_process": external}
    recipe = recipe_of(train_script=SCRIPT, **options)
    recipe.add_client_file(numbers)
    assert result(recipe, tmp_path) == [1, 2, 3]


def test_a_file_is_still_found_after_an_export(tmp_path, numbers):
    """The folder has it, under its name."""
    recipe = recipe_of(train_script=SCRIPT, train_args="{file:numbers.txt}")
    recipe.add_client_file(numbers)
    recipe.add_server_file(numbers)
    loaded = Recipe.load(recipe.export(tmp_path))
    numbers.unlink()
    assert result(loaded, tmp_path) == [1, 2, 3]
    assert loaded.server_file("numbers.txt").read_text() == "1 2 3"


def test_sites_have_files_of_their_own(tmp_path):
    """Of the same name, with other numbers."""
    recipe = recipe_of(train=files_code.train)
    for site, text in (("site-1", "1 1 1"), ("site-2", "3 3 3")):
        (tmp_path / site).mkdir()
        (tmp_path / site / "numbers.txt").write_text(text)
        recipe.add_client_file(tmp_path / site / "numbers.txt", clients=[site])
    assert result(recipe, tmp_path) == [2, 2, 2]


def test_a_site_without_the_file_says_which_it_has(tmp_path, numbers):
    """In the reason of its failure."""
    recipe = recipe_of(train=files_code.train)
    recipe.add_client_file(numbers, clients=["site-1"])
    with pytest.raises(RunFailed, match=r"site-2: .*numbers\.txt.*add_client_file"):
        result(recipe, tmp_path)
    site = Site(SiteInfo(name="a", config={"flare_async.files": {"numbers.txt": "/n"}}), {})
    with pytest.raises(ConfigError, match=r"did you mean numbers\.txt"):
        site.file("number.txt")


def test_what_cannot_be_added_is_refused(tmp_path, numbers):
    """No such file, a name that a site has already, no list, an unknown site."""
    recipe = recipe_of(train=files_code.train)
    recipe.add_client_file(numbers, clients=["site-1"])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "numbers.txt").touch()
    with pytest.raises(ConfigError, match="no such file"):
        recipe.add_client_file(tmp_path / "absent")
    with pytest.raises(ConfigError, match="two of that name"):
        recipe.add_client_file(tmp_path / "other" / "numbers.txt")
    with pytest.raises(ConfigError, match="a list of names"):
        recipe.add_client_file(numbers, clients="site-2")
    recipe.add_client_file(tmp_path / "other", clients=["site-9"])
    with pytest.raises(ConfigError, match="no such sites"):
        recipe.execute(SimEnv(num_clients=2))
    with pytest.raises(ConfigError, match="no file of that name"):
        recipe.server_file("numbers.txt")
