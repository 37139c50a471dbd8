"""The user's job file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from flare_async.errors import ConfigError
from flare_async.jobs.work import JOB_MODULE
from flare_async.sim.cli import run_command_line
from flare_async.sim.load import loaded_recipe

HEAD = """
import numpy as np
from flare_async.recipes import FedAvgRecipe
def train(model, site): return model
def made(**more): return FedAvgRecipe(
    model={"w": np.zeros(4, np.float32)}, train=train, min_clients=2, **more)
"""


def job(folder: Path, text: str, name: str = "job.py") -> Path:
    """Write a job file."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "recipe = made(name='mine')",
        "def recipe(): return made(name='mine')",
        "def recipe(seed): return made(name='mine', num_rounds=seed)",
        "def recipe(*, seed=1): return made(name='mine', num_rounds=seed)",
    ],
)
def test_a_recipe_is_a_value_or_a_function(tmp_path: Path, text: str) -> None:
    """A function is given the seed where it names it."""
    with loaded_recipe(job(tmp_path, HEAD + text), {"seed": 3}) as recipe:
        assert recipe.name == "mine"
        assert recipe.num_rounds in ({3} if "seed" in text else {2})


def test_alpha_reaches_a_recipe_that_takes_it(tmp_path: Path) -> None:
    """And one that does not is refused, because the option would be lost."""
    taking = job(tmp_path, HEAD + "def recipe(alpha): return made(name=f'a{alpha}')")
    with loaded_recipe(taking, {"seed": 1, "alpha": 0.5}) as recipe:
        assert recipe.name == "a0.5"
    for text in ("recipe = made()", "def recipe(): return made()"):
        other = job(tmp_path, HEAD + text)
        with pytest.raises(ConfigError, match="no alpha"), loaded_recipe(other, {"alpha": 0.5}):
            pass


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """Neither the module nor the folder stays where imports look."""
    with loaded_recipe(job(tmp_path, HEAD + "recipe = made()"), {}):
        assert JOB_MODULE in sys.modules
        assert sys.path[0] == str(tmp_path)
    assert JOB_MODULE not in sys.modules
    assert str(tmp_path) not in sys.path


def test_a_job_may_import_what_lies_beside_it(tmp_path: Path) -> None:
    """As a script may."""
    job(tmp_path, "NAME = 'beside'", "flare_job_neighbour.py")
    text = "from flare_job_neighbour import NAME\nrecipe = made(name=NAME)"
    with loaded_recipe(job(tmp_path, HEAD + text), {}) as recipe:
        assert recipe.name == "beside"
    sys.modules.pop("flare_job_neighbour")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "has no recipe"),
        ("recipe = 5", "its recipe is int"),
        ("def recipe(): return 'x'", "its recipe is str"),
        ("from flare_async.recipes import FedAvgRecipe as recipe", "its recipe is FedAvgRecipe"),
        ("x = 1\n1 / 0", r"ZeroDivisionError: division by zero \(line 2\)"),
        ("def f(:", "SyntaxError"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("def recipe():\n    return {}['x']", r"recipe\(\) failed: KeyError: 'x' \(line 2\)"),
        ("def recipe(needed): return 1", "missing 1 required positional argument"),
        (HEAD + "recipe = made(num_rounds=0)", "num_rounds=0"),
        (HEAD + "made().execute(None)\nrecipe = made()", "if __name__"),
    ],
)
def test_a_file_that_is_no_job_is_a_typed_error(tmp_path: Path, text: str, message: str) -> None:
    """The error says what is wrong, with the line where user code raised."""
    with (
        pytest.raises(ConfigError, match=message),
        loaded_recipe(job(tmp_path, text), {"seed": 1}),
    ):
        pass
    assert JOB_MODULE not in sys.modules


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.py", "no such file"),
        ("folder", "has no job.json"),
        ("job.txt", "is no Python file"),
    ],
)
def test_a_path_that_is_no_python_file_is_a_typed_error(
    tmp_path: Path, name: str, message: str
) -> None:
    """The error names the path as it was given."""
    (tmp_path / "folder").mkdir()
    job(tmp_path, "x = 1", "job.txt")
    with pytest.raises(ConfigError, match=message) as caught, loaded_recipe(tmp_path / name, {}):
        pass
    assert caught.value.value == str(tmp_path / name)


def test_an_error_in_a_job_file_names_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One wrong argument, or all of a call; where a run never begins."""
    one = job(tmp_path, HEAD + "recipe = made(num_rounds=0)")
    assert run_command_line([str(one)]) == 2
    assert f"(at {one}, line 5, in made)" in capsys.readouterr().err
    many = job(tmp_path, HEAD + "recipe = made(num_rounds=0, model_locator=1, staging='x')")
    assert run_command_line([str(many)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"error: 3 arguments of FedAvgRecipe cannot be used, {many}:5"
    assert [line.split()[2][:7] for line in said[1:4]] == ["FedAvgR", "num_rou", "staging"]
    assert "read run.model and run.best_model" in said[1]
