"""The checks that CI runs over a built package find what they are for."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.packaging.listing import differences, main, packaged_files
from tests.packaging.site_packages import added


def wheel_of(names: Iterable[str], folder: Path) -> Path:
    """Write a wheel that holds empty files of these names."""
    path = folder / "flare_async-0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in [*sorted(names), "flare_async-0.dist-info/METADATA"]:
            archive.writestr(name, "")
    return path


def test_a_whole_wheel_has_no_differences(tmp_path: Path) -> None:
    """What stands on disk is what a wheel must hold, under the names of the package."""
    assert "flare_async/recipes/__init__.py" in packaged_files()
    assert main([str(wheel_of(packaged_files(), tmp_path))]) == 0


def test_a_forgotten_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A package that the list forgets shows as missing files."""
    names = {name for name in packaged_files() if not name.startswith("flare_async/transports/")}
    assert main([str(wheel_of(names, tmp_path))]) == 1
    assert "lacks flare_async/transports/__init__.py" in capsys.readouterr().out


def test_a_second_top_level_name_is_named(tmp_path: Path) -> None:
    """``recipes`` and ``transports`` must not stand in everybody's site-packages."""
    found = differences(wheel_of({*packaged_files(), "recipes/__init__.py"}, tmp_path))
    assert found == ["flare_async-0-py3-none-any.whl should not have recipes/__init__.py"]


def test_an_sdist_without_sources_is_refused(tmp_path: Path) -> None:
    """An sdist holds the folders beside the package under their own names."""
    path = tmp_path / "flare_async-0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("flare_async-0/LICENSE"), io.BytesIO())
    found = differences(path)
    assert "flare_async-0.tar.gz lacks transports/__init__.py" in found
    assert "flare_async-0.tar.gz lacks LICENSE" not in found


def test_what_came_is_told_without_versions() -> None:
    """The metadata folder's name has a version; everything else is compared as it is."""
    came = added({"pip", "pip-1.dist-info"}, {"pip", "pip-1.dist-info", "x", "x_y-0.1.dist-info"})
    assert came == {"x", "x_y.dist-info"}
