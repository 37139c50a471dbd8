"""Job folders that are not what they should be: refused by name, and nothing in them runs."""

from __future__ import annotations

import json
import os
import socket

import pytest

from flare_async.errors import ConfigError, TensorFormatError
from flare_async.jobs.folders.names import checked_name, files_below
from flare_async.jobs.recipe import Recipe
from tests.jobs.folders.project import command, project
from tests.test_layers import modules, names_of


@pytest.fixture
def folder(tmp_path):
    """Return a job folder."""
    return project(tmp_path / "project").made().export(tmp_path)


def edit(folder, change):
    """Change the document of a folder."""
    document = json.loads((folder / "job.json").read_text())
    change(document)
    (folder / "job.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("path", "value", "field", "words"),
    [
        (["format"], 2, "job.json.format", "reads format 1"),
        (["recipe"], "FedAvgRecip", "job.json.recipe", "did you mean FedAvgRecipe"),
        (["recipe"], "add_experiment_tracking", "job.json.recipe", "is no class"),
        (["recipe"], "Krum", "job.json.recipe", "is no recipe"),
        (["recipe"], "os.system", "job.json.recipe", "has no such class"),
        (["recipe"], {"file": "code/job.py", "name": "json.loads"}, "job.json.recipe", "no class"),
        (["arguments"], [], "job.json.arguments", "an object is needed"),
        (["argument"], {}, "job.json.argument", "did you mean arguments"),
        (["calls"], [{"call": "exec", "arguments": {}}], "calls.call", "use one of"),
        (["filters"], {}, "job.json.filters", "a list is needed"),
        (["arguments", "train"], {"$fuction": 1}, "job.json.arguments.train", "did you mean"),
        (["arguments", "initial_ckpt", "$file"], "../x", None, "rename '..'"),
        (["arguments", "initial_ckpt", "$file"], "/etc/passwd", None, "no relative name"),
        (["arguments", "initial_ckpt", "$file"], "C:\\x", None, "no relative name"),
        (["arguments", "initial_ckpt", "$file"], "modle.safetensors", None, "did you mean model"),
        (["arguments", "train", "$function", "name"], "train.__globals__", None, "is no function"),
        (["arguments", "train", "$function", "name"], "tarin", None, "has no such name"),
        (["client_files"], [{"file": "a/../b"}], "client_files", "rename '..'"),
    ],
)
def test_a_document_that_is_wrong_is_named(folder, path, value, field, words):
    """With the key, and the word that was meant."""

    def change(document):
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    edit(folder, change)
    with pytest.raises(ConfigError, match=words) as caught:
        Recipe.load(folder)
    assert field is None or caught.value.field == field


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"format": 1, "format": 1}', "a key comes twice"),
        ('{"format": NaN}', "is no number"),
        ("[" * 100_000, "no strict JSON"),
        ("\xff", "no strict JSON"),
        (" " * 2**20 + "{}", "more than 1048576 bytes"),
        ("[]", "an object is needed"),
        ("{}", "is missing"),
    ],
)
def test_a_document_that_is_none_is_refused(folder, text, words):
    """Strict JSON of at most 1 MiB."""
    (folder / "job.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=words):
        Recipe.load(folder)


def plant(folder, kind):
    """Put something into a folder that is no plain file."""
    place = folder / "code" / "planted.py"
    if kind == "link":
        place.symlink_to("/etc/passwd")
    elif kind == "link to a folder":
        place.symlink_to("/etc")
    elif kind == "dangling link":
        place.symlink_to("nowhere")
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(os.path.relpath(place))
    elif kind == "case":
        (folder / "code" / "JOB.py").write_text("")
    else:
        (folder / "code" / kind).write_text("")


@pytest.mark.parametrize(
    "kind",
    [
        *("link", "link to a folder", "dangling link", "pipe", "socket", "case"),
        *("CON", "nul.py", "a\nb", "a:b", "-x", ".hidden", "trailing.", "\u202egnp.py", "x" * 200),
    ],
)
def test_b35_a_folder_has_plain_files_only(folder, kind):
    """Whatever else is in there, nothing of it is opened or run."""
    (folder / "code" / "job.py").write_text("raise SystemExit('ran')")
    plant(folder, kind)
    with pytest.raises(ConfigError, match="job=") as caught:
        Recipe.load(folder)
    assert "ran" not in str(caught.value)


def test_b35_the_number_of_files_is_bounded(tmp_path):
    """Counted while they are found."""
    for number in range(10_001):
        (tmp_path / f"f{number}").touch()
    with pytest.raises(ConfigError, match="more than 10000 files"):
        files_below("job", tmp_path)


@pytest.mark.parametrize("name", ["", "a//b", "a/", "./a", "a\\b", "x" * 256, None, 7, "a/nul"])
def test_names_that_are_none(name):
    """Neither in a document nor on a disk."""
    with pytest.raises(ConfigError, match="relative name"):
        checked_name("job", name)


def test_what_is_no_folder_is_said_to_be_none(tmp_path):
    """A file, nothing, and an empty folder."""
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for name, words in (("file", "is no folder"), ("x", "no such"), ("empty", "no job.json")):
        with pytest.raises(ConfigError, match=words):
            Recipe.load(tmp_path / name)


def test_code_that_fails_is_named(folder):
    """With the file and what it raised; one that starts a run is told to have a guard."""
    code = (folder / "code" / "job.py").read_text()
    (folder / "code" / "job.py").write_text("raise KeyError('missing')")
    with pytest.raises(ConfigError, match=r"job\.py.*KeyError\('missing'\)"):
        Recipe.load(folder)
    (folder / "code" / "job.py").write_text(code + "\nmade().export('x')\n")
    with pytest.raises(ConfigError, match="__main__"):
        Recipe.load(folder)


def test_the_command_line_says_what_is_wrong(folder):
    """As one error with its status."""
    edit(folder, lambda document: document.update(recipe="FedAvgRecip"))
    ended = command(str(folder))
    assert ended.returncode == 2
    assert "did you mean FedAvgRecipe" in ended.stderr


def test_a_model_that_is_damaged_is_refused(folder):
    """Cut short, as a copy that failed."""
    model = folder / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(TensorFormatError, match=r"model\.safetensors"):
        Recipe.load(folder)


def test_nobody_but_the_user_loads_a_folder():
    """No role, transport or client does: what a peer sends never gets there."""
    callers = {
        path
        for path, tree in modules().items()
        for line, name in names_of(tree).used
        if name.endswith(("load_job", "Recipe.load")) and "/folders/" not in path
    }
    assert callers == {"flare_async/jobs/recipe.py", "flare_async/sim/load.py"}
