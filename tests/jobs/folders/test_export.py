"""What of a user's own goes into a job folder, and what is refused, with what to do."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest

from flare_async import SimEnv
from flare_async.errors import ConfigError, WorkspaceError
from flare_async.jobs.recipe import Recipe
from flare_async.jobs.trackers.tensorboard import TensorBoardTracker
from flare_async.jobs.trackers.wandb_runs import WandBTracker
from flare_async.recipes import add_cross_site_evaluation
from flare_async.transfer.filters import ExcludeVars
from tests.jobs.folders.project import command, project


@pytest.fixture
def job(tmp_path):
    """Return the module of a user's job."""
    return project(tmp_path / "project")


def digest(recipe, root, **options):
    """Return what a run makes of the model."""
    env = SimEnv(**{"num_clients": 2, "seed": 5, "workspace_root": root, **options})
    return recipe.execute(env).model.model_digest()


def document(folder):
    """Return what stands in ``job.json``."""
    return json.loads((folder / "job.json").read_text("utf-8"))


def files(folder):
    """Return the names of all files of a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


@pytest.mark.parametrize("workers", ["inline", "thread", "process"])
def test_code_goes_with_what_it_imports(tmp_path, job, workers):
    """The folder works when the project is gone, wherever functions run."""
    recipe = job.made(train=functools.partial(job.train, by=2))
    expected = digest(recipe, tmp_path, workers="inline")
    folder = recipe.export(tmp_path / "jobs")
    assert files(folder) == ["code/helper.py", "code/job.py", "job.json", "model.safetensors"]
    (tmp_path / "project" / "helper.py").unlink()
    assert digest(Recipe.load(folder), tmp_path, workers=workers) == expected


def test_the_command_line_runs_a_folder(tmp_path, job):
    """In a process that has never seen the project, to the same bits."""
    folder = job.made().export(tmp_path)
    ended = command(str(folder), "--clients=2", "--seed=5", "--json", f"--workspace={tmp_path}/r")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["data"]["model_digest"] == digest(job.made(), tmp_path)


def test_a_recipe_and_objects_of_the_users_go_by_their_files(tmp_path, job):
    """Classes at the top of a file; dataclasses and filters know what they were made with."""
    recipe = job.mine(extra=2.5, aggregator=job.Mean(bias=1.0))
    recipe.add_client_output_filter(job.Halved(3), tasks=["train"], clients=["site-1"])
    folder = recipe.export(tmp_path)
    assert document(folder)["recipe"] == {"file": "code/job.py", "name": "Mine"}
    loaded = Recipe.load(folder)
    assert (type(loaded).__name__, loaded.extra, loaded.aggregator.bias) == ("Mine", 2.5, 1.0)
    assert digest(loaded, tmp_path) == digest(recipe, tmp_path)


def test_additions_go_with_it(tmp_path, job):
    """Filters, waits, cross-site evaluation, files."""
    recipe = job.made(evaluate=job.train)
    recipe.add_client_input_filter(ExcludeVars(["x"]))
    recipe.add_server_config({"max_resends": 7})
    add_cross_site_evaluation(recipe, validation_timeout=9, participating_clients=["site-1"])
    recipe.add_client_file(tmp_path / "project" / "helper.py", clients=["site-2"])
    recipe.add_server_file(tmp_path / "project")
    loaded = Recipe.load(recipe.export(tmp_path))
    [(place, added)] = loaded.filters.added()
    assert (place, added.filter.made_with) == ("client_input", ((["x"],), {}))
    assert loaded.client_config == {"max_resends": 7}
    assert [(one.timeout, one.sites) for one in loaded.followers] == [(9, ["site-1"])]
    assert [(one.name, one.clients) for one in loaded.client_files] == [("helper.py", ("site-2",))]
    assert (loaded.server_file("project") / "job.py").is_file()


def test_scripts_of_different_folders_keep_their_names(tmp_path, job):
    """Two sites, two client.py, each with a helper of its own."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "client.py").write_text(f"import own_helper\nprint({name!r})\n")
        (tmp_path / name / "own_helper.py").write_text(f"NAME = {name!r}\n")
    sites = {f"site-{at}": {"train_script": str(tmp_path / at / "client.py")} for at in "ab"}
    folder = job.made(train=None, per_site_config=sites).export(tmp_path)
    loaded = Recipe.load(folder)
    paths = [loaded.work(f"site-{at}").script.path for at in "ab"]
    assert [path.read_text().split("'")[1] for path in paths] == ["a", "b"]
    assert [path.with_name("own_helper.py").read_text().split("'")[1] for path in paths] == [
        "a",
        "b",
    ]
    assert all(path.is_relative_to(folder) for path in paths)


def test_options_of_sites_stay_what_they_are(tmp_path, job):
    """Paths of theirs are texts, whatever they are called; numbers may be infinite."""
    options = {"model_path": "/data/m", "replay": "x", "clip": float("inf"), "at": [1, None, True]}
    own = {"site-1": {"initial_ckpt": "/data/c", "train_script": str(tmp_path / "own.py")}}
    (tmp_path / "own.py").write_text("import flare_async.client")
    folder = job.made(train_config=options, per_site_config=own).export(tmp_path)
    loaded = Recipe.load(folder)
    assert loaded.train_config == options
    assert loaded.per_site_config["site-1"]["initial_ckpt"] == "/data/c"
    assert loaded.work("site-1").script.path.is_relative_to(folder)


class Live:
    """An object of which nobody knows how it was made."""

    def __init__(self, secret):
        self.secret = secret

    def accept_model(self, model):
        """Take an update."""

    aggregate_model = reset_stats = accept_model


def nested():
    """Return a function that no file has under a name."""

    def inner(model, site):
        return model

    return inner


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({"train": lambda model, site: model}, "train", "lambda"),
        ({"train": nested()}, "train", "defined inside a function"),
        ({"train": json.loads}, "train", "installed library"),
        ({"evaluate": np.sum}, "evaluate", "how this object was made"),
        ({"evaluate": functools.partial(print)}, "evaluate", "builtin"),
        ({"aggregator": Live("s")}, "aggregator", "how this object was made is not known"),
        ({"train_config": {"$file": "x"}}, "train_config", "do not begin with"),
    ],
)
def test_what_cannot_be_written_down_is_named(tmp_path, job, options, field, words):
    """With what to do; and nothing is left behind."""
    with pytest.raises(ConfigError, match=words) as caught:
        job.made(**options).export(tmp_path / "jobs")
    assert caught.value.field == field
    assert caught.value.hint
    assert not (tmp_path / "jobs").exists()


def test_a_folder_that_exists_stays_as_it_is(tmp_path, job):
    """And a half-written one is never seen."""
    folder = job.made().export(tmp_path / "jobs")
    before = files(folder)
    with pytest.raises(WorkspaceError, match="exists already"):
        job.made(num_rounds=9).export(tmp_path / "jobs")
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == ["fedavg"]
    assert (files(folder), "num_rounds" in document(folder)["arguments"]) == (before, False)


def test_a_tracker_goes_with_what_it_was_given(tmp_path, job):
    """Its library has to be there when the folder is loaded, as when it was added."""
    recipe = job.made()
    recipe.trackers.append(TensorBoardTracker("events"))
    arguments = {"tracking_type": "tensorboard", "tracking_config": {"tb_folder": "events"}}
    call = {"call": "add_experiment_tracking", "arguments": arguments}
    assert document(recipe.export(tmp_path))["calls"] == [call]


def test_a_tracker_with_a_secret_is_not_exported(tmp_path, job):
    """A folder is copied and shared."""
    recipe = job.made()
    recipe.trackers.append(WandBTracker(wandb_args={"config": {"api_key": "hunter2"}}))
    with pytest.raises(ConfigError, match=r"wandb_args\.config\.api_key") as caught:
        recipe.export(tmp_path)
    assert "hunter2" not in str(caught.value)
