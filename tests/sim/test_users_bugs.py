"""A bug in a user's job file: the run fails, and the message says which line of that file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from flare_async import SimEnv
from flare_async.errors import RunFailed
from flare_async.jobs.jobfile import UserCode
from flare_async.sim.cli import run_command_line

JOB = """
from dataclasses import dataclass

import numpy as np

from flare_async import FLModel
from flare_async.jobs.recipe import Recipe
from flare_async.jobs.work import Work
from flare_async.transfer import TensorSet, WeightedMean


def train(model, site):
    {train}


@dataclass(kw_only=True, eq=False)
class Mine(Recipe):
    min_clients: int = 2
    num_rounds: int = 1
    name: str = "mine"

    def work(self, site):
        return Work(train)

    {head}(self, cohort):
        model = TensorSet.from_params({{"w": np.zeros(3, np.float32), "b": np.zeros(1)}})
        task = cohort.task(0, 1)
        {body}


recipe = Mine()
"""
TRAIN = "return FLModel(params=model.params)"
HEAD = "async def coordinate"
ROUND = """with WeightedMean(model, order=cohort.sites) as mean:
            async with cohort.round(task, model, reducer=mean) as updates:
                async for site, update in updates:
                    pass
                {rest}"""
# What is wrong, the words that the message has, and the text in the line that it names.
IN_THE_RECIPE = {
    "never enters a round": ("cohort.round(task, model)", "without asking any site", HEAD),
    "enters it without async": (
        "with cohort.round(task, model) as updates: pass",
        "context manager",
        "with cohort.round",
    ),
    "iterates without async": (
        "async with cohort.round(task, model) as u:\n            for _ in u: pass",
        "iterable",
        "for _ in u",
    ),
    "returns at once": ("return None", "without asking any site", HEAD),
    "asks an unknown site": (
        'async with cohort.round(task, model, sites=["nobody"]) as u: pass',
        "nobody",
        "async with",
    ),
    "never awaits a checkpoint": (
        ROUND.format(rest="cohort.checkpoint(await cohort.finish(mean), 1)"),
        "never awaited: cohort.checkpoint()",
        "cohort.checkpoint(",
    ),
    "never awaits a model": (
        ROUND.format(rest="await cohort.checkpoint(cohort.finish(mean), 1)"),
        "cohort.finish()",
        "cohort.finish(",
    ),
    "adds a wrong shape": (
        ROUND.format(rest='np.zeros(2) + model.numpy()["w"]'),
        "broadcast",
        "np.zeros(2)",
    ),
    "makes a wrong type": (
        ROUND.format(rest='TensorSet.from_params({"w": np.array(["text"])})'),
        "w",
        'np.array(["text"])',
    ),
    "lacks params": (ROUND.format(rest='model.numpy()["weights"]'), "weights", '["weights"]'),
    "raises": (ROUND.format(rest='raise RuntimeError("my own")'), "my own", "raise RuntimeError"),
}
IN_TRAIN = {
    "a wrong shape": ('return FLModel(params={"w": model.params["w"][:2]})', "the params differ"),
    "a wrong type": (
        'return FLModel(params={**model.params, "w": np.arange(3)})',
        "the params differ",
    ),
    "missing params": ('return FLModel(params={"w": model.params["w"]})', "the params differ"),
    "no params": ("return FLModel()", "no params"),
    "nothing": ("return None", "returned None"),
    "an error": ('raise KeyError("my own")', "KeyError: 'my own'"),
}


@pytest.fixture(autouse=True)
def path_as_it_was(monkeypatch):
    """Forget the folders of the jobs that a test has loaded."""
    monkeypatch.setattr(sys, "path", list(sys.path))


def job(folder: Path, *, train: str = TRAIN, head: str = HEAD, body: str) -> Path:
    """Write a job file with a bug."""
    path = folder / "job.py"
    path.write_text(JOB.format(train=train, head=head, body=body))
    return path


def line_of(path: Path, words: str) -> str:
    """Return how a message names the line with these words."""
    lines = path.read_text().splitlines()
    return f"{path}, line {next(at for at, text in enumerate(lines, 1) if words in text)}"


def messages(path: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what a run in an environment and one by the command line say, and ``run.json``."""
    recipe = UserCode().module(path).recipe
    with pytest.raises(RunFailed) as caught:
        recipe.execute(SimEnv(num_clients=2, workers="inline", workspace_root=root))
    written = json.loads((root / "mine-1" / "run.json").read_text())["cause"]["message"]
    status = run_command_line([str(path), "--clients=2", "--quiet", f"--workspace={root}"])
    assert status != 0
    return [str(caught.value), written, capsys.readouterr().err]


@pytest.mark.filterwarnings(
    "error::RuntimeWarning", "error::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize(("body", "words", "line"), IN_THE_RECIPE.values(), ids=IN_THE_RECIPE)
def test_a_bug_in_a_recipe_is_named(tmp_path, capsys, body, words, line):
    """With its line, to whoever reads: an exception, a file, a terminal."""
    path = job(tmp_path, body=body)
    for said in messages(path, tmp_path, capsys):
        assert words in said
        assert line_of(path, line) in said


def test_a_coordinate_that_is_not_async_is_named(tmp_path, capsys):
    """Python would say that None cannot be awaited, and not whose."""
    path = job(tmp_path, head="def coordinate", body="return None")
    for said in messages(path, tmp_path, capsys):
        assert "returned NoneType; write 'async def'" in said or "hint: write 'async def'" in said
        assert line_of(path, "def coordinate") in said


@pytest.mark.parametrize(("train", "words"), IN_TRAIN.values(), ids=IN_TRAIN)
def test_a_bug_in_a_train_function_is_named(tmp_path, capsys, train, words):
    """What it returned names the function, what it raised the line that did."""
    path = job(tmp_path, train=train, body=ROUND.format(rest="await cohort.finish(mean)"))
    line = line_of(path, train if train.startswith("raise") else "def train")
    for said in messages(path, tmp_path, capsys):
        assert words in said
        assert line in said
