"""The package list, the folders on disk, the symlinks and the version agree with one another."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import flare_async

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
BESIDE = ("recipes", "transports")


def folders_with_code() -> set[Path]:
    """Return every folder of the package that holds Python files, symlinks followed."""
    found = set()
    for folder, names, files in os.walk(ROOT / "flare_async", followlinks=True):
        names[:] = [name for name in names if name != "__pycache__"]
        if any(file.endswith(".py") for file in files):
            found.add(Path(folder).relative_to(ROOT))
    return found


def python(*arguments: str, cwd: Path) -> str:
    """Run an interpreter that sees neither the environment nor site-packages."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_package_list_names_every_folder_with_code() -> None:
    """A folder that the list forgets would be missing from the wheel, and only there."""
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    assert listed == {".".join(folder.parts) for folder in folders_with_code()}


def test_every_folder_with_code_is_a_regular_package() -> None:
    """Namespace packages escape import-linter and mypy -p."""
    lacking = [f for f in sorted(folders_with_code()) if not (ROOT / f / "__init__.py").is_file()]
    assert lacking == []


@pytest.mark.parametrize("name", BESIDE)
def test_a_folder_beside_the_package_is_linked_relatively(name: str) -> None:
    """An absolute link would work on one machine only."""
    assert (ROOT / "flare_async" / name).readlink() == Path("..") / name
    assert PROJECT["tool"]["setuptools"]["package-dir"][f"flare_async.{name}"] == name


def test_no_other_symlink_is_in_the_package() -> None:
    """Every further link would be a second name for the same module."""
    links = [f for f in sorted((ROOT / "flare_async").rglob("*")) if f.is_symlink()]
    assert [link.name for link in links] == list(BESIDE)


def test_the_version_is_said_once() -> None:
    """The package and its metadata name the same version."""
    assert flare_async.__version__ == PROJECT["project"]["version"]


def test_the_changelog_has_a_place_for_what_comes() -> None:
    """Every user-visible change is recorded under Unreleased."""
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_constraints_pin_only_torch() -> None:
    """Floors are in pyproject.toml; only the framework that decides about bits is pinned."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").split()
    assert [re.split("==", line)[0] for line in lines] == ["torch"]


def test_the_core_depends_on_no_framework() -> None:
    """Frameworks are extras."""
    names = {re.split(r"[^\w-]", line)[0] for line in PROJECT["project"]["dependencies"]}
    assert names.isdisjoint({"torch", "ml-dtypes", "scikit-learn", "matplotlib", "pandas"})


def test_a_bare_checkout_imports_under_one_name(tmp_path: Path) -> None:
    """Without an installation, the symlinks give the folders their package names."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); "
    code += "import flare_async.recipes, flare_async.transports; print(flare_async.__version__)"
    assert python(code, str(ROOT), cwd=tmp_path) == flare_async.__version__


def test_the_bare_import_is_light(tmp_path: Path) -> None:
    """``import flare_async`` loads one module of ours and neither a loop nor a library."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import flare_async; "
    code += "print(*[name for name in sys.modules if name.partition('.')[0] in"
    code += " ('flare_async', 'numpy', 'torch', 'aiohttp', 'anyio', 'asyncio', 'structlog')])"
    assert python(code, str(ROOT), cwd=tmp_path) == "flare_async"


def test_an_unknown_name_is_an_attribute_error() -> None:
    """Lazy exports answer a misspelt name as any module does."""
    with pytest.raises(AttributeError, match="module 'flare_async' has no attribute 'SimEnvv'"):
        _ = flare_async.SimEnvv


def test_every_public_name_is_found_and_listed() -> None:
    """What ``__all__`` promises is there, and ``dir`` shows it before it is first used."""
    assert set(flare_async.__all__) <= set(dir(flare_async))
    missing = [name for name in flare_async.__all__ if not hasattr(flare_async, name)]
    assert missing == []
