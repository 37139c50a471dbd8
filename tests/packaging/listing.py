"""Compares what archives hold with the sources: ``python listing.py NAME.whl NAME.tar.gz``."""

from __future__ import annotations

import os
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

__all__ = ["ROOT", "differences", "main", "packaged_files"]

ROOT = Path(__file__).resolve().parents[2]
DATA = {".py", ".html", ".css", ".js", ".toml"}


def packaged_files() -> set[str]:
    """Return the files that an installed package must have, as paths below site-packages."""
    found = set()
    for folder, names, files in os.walk(ROOT / "flare_async", followlinks=True):
        names[:] = [name for name in names if name != "__pycache__"]
        for file in files:
            if Path(file).suffix in DATA or file == "py.typed":
                found.add((Path(folder) / file).relative_to(ROOT).as_posix())
    return found


def differences(archive: Path) -> list[str]:
    """Return what is missing from a wheel or an sdist, and what a wheel has too much."""
    if archive.suffix == ".whl":
        held = set(zipfile.ZipFile(archive).namelist())
        metadata = {name for name in held if ".dist-info/" in PurePosixPath(name).as_posix()}
        extra = held - metadata - packaged_files()
        wanted = packaged_files()
    else:
        held = _sdist_files(archive)
        extra = set()
        wanted = {_in_sources(name) for name in packaged_files()} | {"LICENSE", "pyproject.toml"}
    lacking = [f"{archive.name} lacks {name}" for name in sorted(wanted - held)]
    return lacking + [f"{archive.name} should not have {name}" for name in sorted(extra)]


def _sdist_files(archive: Path) -> set[str]:
    with tarfile.open(archive) as opened:
        return {member.name.partition("/")[2] for member in opened if member.isfile()}


def _in_sources(name: str) -> str:
    """Return where a file of the package stands in the source tree, symlinks followed."""
    return (ROOT / name).resolve().relative_to(ROOT).as_posix()


def main(archives: list[str]) -> int:
    """Print the differences; return 1 where there are any."""
    if not archives:
        sys.stderr.write("name at least one wheel or sdist\n")
        return 2
    found = [line for archive in archives for line in differences(Path(archive))]
    sys.stdout.write("".join(f"{line}\n" for line in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
