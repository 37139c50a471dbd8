"""Imports in a job folder's code find the folder's own modules, and nobody else finds those."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest

from flare_async import SimEnv
from flare_async.errors import ConfigError
from flare_async.jobs.jobfile import UserCode
from flare_async.jobs.work import code_of
from flare_async.recipes import FedAvgRecipe

TRAIN = """
from flare_async import FLModel


def train(model, site):
    from helper import step
    return FLModel(params={"w": model.params["w"] + step()})
"""


def written(folder, **files):
    """Write files; a double underscore in a name is a folder."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def loaded(folder, name="job", package=""):
    """Return the module of a file of a folder."""
    return UserCode().module(folder.joinpath(*package.split("."), f"{name}.py"), package)


def test_two_folders_have_a_module_each_of_the_same_name(tmp_path):
    """Also where a function imports it when it is called, long after both were loaded."""
    late = "def late():\n    import helper\n    return helper.NAME\n"
    early = "from helper import NAME\n"
    jobs = [
        loaded(written(tmp_path / name, job=early + late, helper=f"NAME = {name!r}"))
        for name in ("a", "b")
    ]
    assert [job.NAME for job in jobs] == [job.late() for job in jobs] == ["a", "b"]


def test_other_code_finds_none_of_it(tmp_path):
    """The names of a folder are free for a module that this process has never seen."""
    loaded(written(tmp_path / "job", job="import own_name_of_a_job", own_name_of_a_job=""))
    assert "own_name_of_a_job" not in sys.modules
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("own_name_of_a_job")


@pytest.mark.parametrize(
    "statement",
    [
        "import pack.inner.leaf\nfound = pack.inner.leaf.LEAF",
        "import pack.inner.leaf as leaf\nfound = leaf.LEAF",
        "from pack.inner import leaf\nfound = leaf.LEAF",
        "from pack.inner.leaf import LEAF as found",
        "from pack.inner.leaf import *\nfound = LEAF",
        "from pack.around import LEAF as found",
        "import json, pack.inner.leaf\nfound = json.loads(str(pack.inner.leaf.LEAF))",
    ],
)
def test_every_kind_of_statement_is_answered(tmp_path, statement):
    """Packages with and without __init__, relative imports, several names at once."""
    written(tmp_path, job=statement, pack__inner__leaf="LEAF = 7")
    written(tmp_path, pack__around="from .inner.leaf import LEAF")
    (tmp_path / "pack" / "__init__.py").touch()
    assert loaded(tmp_path).found == 7


def test_a_module_in_a_package_is_named_for_workers_as_its_file_knows_it(tmp_path):
    """They load it by path and package, as the submitter's own."""
    written(tmp_path, pack__job="from .helper import f", pack__helper="def f(m, s):\n    pass")
    code = code_of(loaded(tmp_path, package="pack").f)
    assert (code.path, code.package) == (str(tmp_path / "pack" / "helper.py"), "pack")


def test_a_file_whose_name_is_no_module_name_is_loaded(tmp_path):
    """As a script it could be called so."""
    written(tmp_path, **{"train.v2": "import helper\nX = helper.X", "helper": "X = 3"})
    assert loaded(tmp_path, "train.v2").X == 3


def test_a_file_that_has_changed_is_loaded_anew_with_what_imports_it(tmp_path):
    """The former module stays for those who have its functions."""
    first = loaded(written(tmp_path, job="from helper import X", helper="X = 1"))
    second = loaded(written(tmp_path, helper="X = 22"))
    assert (first.X, second.X) == (1, 22)
    assert loaded(tmp_path) is second


def test_a_module_that_is_missing_is_named(tmp_path):
    """With the file that was to be loaded."""
    with pytest.raises(ConfigError, match=r"job\.py'.*No module named 'nobody_has_this'"):
        loaded(written(tmp_path, job="import nobody_has_this"))


@pytest.mark.parametrize("workers", ["inline", "thread", "process"])
def test_workers_of_every_kind_find_the_folders_modules(tmp_path, monkeypatch, workers):
    """Although one of that name stands first on the submitter's path."""
    written(tmp_path / "other", helper="def step():\n    return 100")
    monkeypatch.syspath_prepend(str(tmp_path / "other"))
    job = loaded(written(tmp_path / "job", job=TRAIN, helper="def step():\n    return 1"))
    recipe = FedAvgRecipe(model={"w": np.zeros(2)}, train=job.train, min_clients=2, num_rounds=2)
    run = recipe.execute(SimEnv(num_clients=2, workers=workers, workspace_root=tmp_path / "runs"))
    assert run.model.numpy()["w"].tolist() == [2.0, 2.0]
