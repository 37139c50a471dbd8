"""Which files a job needs: found in the text of its code, which is not run."""

from __future__ import annotations

import pytest

from flare_async.errors import ConfigError
from flare_async.jobs.folders.code import Entry, modules_of


def written(folder, **files):
    """Write files; a double underscore in a name is a folder."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def found(path, package=""):
    """Return the names of what an entry needs."""
    return sorted(modules_of("train", Entry.of(path, package)))


def test_imports_are_followed_wherever_they_stand(tmp_path):
    """In functions, of modules that import further ones, in circles; what nobody has is left."""
    written(
        tmp_path,
        train="def f():\n    from one import name\nimport json, numpy, nobody_has_this",
        one="import two",
        two="import one\nraise SystemExit('run')",
        other="",
    )
    assert found(tmp_path / "train.py") == ["one.py", "train.py", "two.py"]


def test_packages_come_with_their_parents(tmp_path):
    """Also without __init__; a name that is imported may be a module."""
    written(
        tmp_path,
        train="from pack.inner import leaf\nimport bare.module",
        bare__module="",
        bare__other="",
    )
    (tmp_path / "pack" / "inner").mkdir(parents=True)
    for name in ("pack/__init__.py", "pack/inner/__init__.py", "pack/inner/leaf.py"):
        (tmp_path / name).write_text("from ..sibling import x" if "leaf" in name else "")
    (tmp_path / "pack" / "sibling.py").write_text("")
    expected = ["bare/module.py", "pack/__init__.py", "pack/inner/__init__.py"]
    assert found(tmp_path / "train.py") == [
        *expected,
        *("pack/inner/leaf.py", "pack/sibling.py", "train.py"),
    ]


def test_a_module_in_a_package_is_counted_from_above_it(tmp_path):
    """So that its relative imports work in the folder."""
    written(tmp_path, pack__train="from . import helper\nfrom .deep import x", pack__helper="")
    written(tmp_path / "pack", deep__x="from ..helper import y")
    entry = Entry.of(tmp_path / "pack" / "train.py", "pack")
    assert (entry.root, entry.name) == (tmp_path, "pack/train.py")
    assert found(tmp_path / "pack" / "train.py", "pack") == [
        *("pack/deep/x.py", "pack/helper.py", "pack/train.py"),
    ]


def test_modules_elsewhere_on_the_path_come_too_but_not_libraries(tmp_path, monkeypatch):
    """A project's root on PYTHONPATH is the user's; site-packages and flare_async are not."""
    written(tmp_path / "job", train="import shared, flare_async.recipes, torch, click, os.path")
    written(tmp_path / "lib", shared="")
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    assert found(tmp_path / "job" / "train.py") == ["shared.py", "train.py"]


def test_a_script_in_another_language_goes_alone(tmp_path):
    """Its command says what runs it."""
    (tmp_path / "train.sh").write_text("exec python3 other.py")
    assert found(tmp_path / "train.sh") == ["train.sh"]


@pytest.mark.parametrize("text", ["def f(:", "\0", "x = (" * 300])
def test_what_is_no_python_is_refused(tmp_path, text):
    """With the argument and the file that are meant."""
    written(tmp_path, train=text)
    with pytest.raises(ConfigError, match=r"train='.*train\.py': cannot be read as Python"):
        found(tmp_path / "train.py")
