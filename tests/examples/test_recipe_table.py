"""The table of all recipes: each is in it, and a run leaves the files that its row names."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from fnmatch import fnmatch

import pytest

from flare_async import recipes
from tests.examples.play import ROOT

ALWAYS = {"run.json", "history.jsonl"}
MODEL = ("FL_global_model.*", "best_FL_global_model.*")
OPTIONS = {
    "ClientCyclicRecipe": ("--algorithm", "cyclic"),
    "AsyncFedAvgRecipe": ("--algorithm", "async_fedavg"),
    "NumpyCrossSiteEvalRecipe": ("--mode", "pretrained"),
    'FedAvgRecipe(aggregator="median")': ("--aggregator", "median"),
}
NAMED_BY_USERS = {"stats_output_path": ("statistics/cancer.json", "statistics/cancer.html")}
ELSEWHERE = {"tf": "tensorflow", "lightning": "pytorch_lightning"}
LINK = re.compile(r"\.\./examples/([a-z-]+)/README\.md")
CODE = re.compile(r"`([^`]+)`")


def rows():
    """Yield the class, the patterns of files and the examples of each row."""
    lines = (ROOT / "docs" / "recipes.md").read_text("utf-8").splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("| class | paper |"))
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return
        cells = line.split("|")[1:-1]
        files = [*(MODEL if "those of the recipe" in cells[4] else ()), *CODE.findall(cells[4])]
        patterns = [one for name in files for one in NAMED_BY_USERS.get(name, (name,))]
        yield CODE.search(cells[0])[1], patterns, LINK.findall(cells[5])


def kinds(name):
    """Return the kinds of model files that an example leaves."""
    model = ROOT / "examples" / name / "model.py"
    torch = model.exists() and "import torch" in model.read_text("utf-8")
    return {".safetensors", ".pt"} if torch else {".safetensors"}


PLAYED = [
    pytest.param(name, files, example, id=f"{name}-{example}")
    for name, files, examples in rows()
    for example in examples
]


def test_every_recipe_has_a_row():
    """Under the name that it is imported by; whoever adds one sees what its row must say."""
    named = {re.sub(r"\(.*", "", name) for name, _, _ in rows()}
    exported = {name for name in recipes.__all__ if name.endswith("Recipe")}
    assert exported - named == set()
    assert named - set(recipes.__all__) == set()


def test_every_row_has_an_example_that_ships():
    """Except for an aggregator of your own, whose example is on the page."""
    without = [name for name, _, examples in rows() if not examples]
    assert without == ["FedAvgRecipe(aggregator=...)"]


@pytest.mark.slow
@pytest.mark.example
@pytest.mark.timeout(120)
@pytest.mark.parametrize(("name", "files", "example"), PLAYED)
def test_a_run_leaves_the_files_of_its_row_and_no_others(tmp_path, name, files, example):
    """As its reader starts it, from a folder of nobody."""
    for word, library in ELSEWHERE.items():
        if word in example.split("-") and importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is in an environment of its own")
    left = left_by(example, tmp_path, *OPTIONS.get(name, ()))
    assert left >= ALWAYS
    own = left - ALWAYS - {"metrics.jsonl"}
    assert {file for file in own if not any(fnmatch(file, one) for one in files)} == set()
    assert [one for one in files if not any(fnmatch(file, one) for file in own)] == []
    for pattern in {*MODEL} & {*files}:
        found = {file for file in own if fnmatch(file, pattern)}
        assert {file.removeprefix(pattern[:-2]) for file in found} == kinds(example)


def left_by(example, workspace, *options):
    """Return the files of the run folder, by their paths in it."""
    job = ROOT / "examples" / example / "job.py"
    line = [sys.executable, str(job), "--workspace", str(workspace), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(line, cwd=workspace, env=environment, check=True, capture_output=True)
    folder = workspace / f"{example}-1"
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix() for path in found}
