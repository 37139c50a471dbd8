"""Which files a job folder may have: plain ones, under names that every system takes."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from flare_async.errors import ConfigError, WorkspaceError

__all__ = ["JOB_FILE", "MOST_FILES", "checked_name", "files_below", "unlike_others"]

JOB_FILE: Final = "job.json"
MOST_FILES: Final = 10_000
LONGEST: Final = 255  # characters of a whole relative name
PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+=, -]{0,126}(?<![. ])")
RESERVED: Final = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
LEFT_BY_PYTHON: Final = "__pycache__"  # running the code in a folder leaves it there


def checked_name(field: str, name: object) -> str:
    """Return a relative name with slashes, for a file below a job folder.

    Raises:
        ConfigError: it is absolute, leads out of the folder, or no name for every system.
    """
    if not isinstance(name, str) or not name or len(name) > LONGEST:
        raise ConfigError(field, name, f"a relative name of 1 to {LONGEST} characters is needed")
    parts = name.split("/")
    for part in parts:
        if PART.fullmatch(part) is None or RESERVED.fullmatch(part):
            problem = "is no relative name of letters, digits and _ . @ + = , - or spaces"
            raise ConfigError(field, name, problem, f"rename {part!r}")
    return str(PurePosixPath(*parts))


def files_below(field: str, folder: Path) -> dict[str, Path]:
    """Return the files below a folder by their checked relative names, in order.

    Raises:
        ConfigError: a link or something else that is no file, a bad name, or too many files.
        WorkspaceError: the folder cannot be read.
    """
    found: dict[str, Path] = {}
    for path in walked(field, folder):
        name = checked_name(field, path.relative_to(folder).as_posix())
        found[name] = path
        if len(found) > MOST_FILES:
            raise ConfigError(field, str(folder), f"has more than {MOST_FILES} files")
    unlike_others(field, found)
    return found


def walked(field: str, folder: Path) -> Iterator[Path]:
    """Yield every file below a folder; a link, pipe or device is an error."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as exc:
        raise WorkspaceError(field, str(folder), f"cannot be read: {exc.strerror or exc}") from exc
    for entry in entries:
        mode = entry.stat(follow_symlinks=False).st_mode
        path = folder / entry.name
        if stat.S_ISDIR(mode):
            if entry.name != LEFT_BY_PYTHON:
                yield from walked(field, path)
        elif stat.S_ISREG(mode):
            yield path
        else:
            kind = "a link" if stat.S_ISLNK(mode) else "no regular file"
            raise ConfigError(field, str(path), f"is {kind}", "put the file itself there")


def unlike_others(field: str, names: dict[str, Path]) -> None:
    """Refuse names that are one name where case does not count. Raises ConfigError."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            problem = f"differs from {other!r} in case only"
            raise ConfigError(field, name, problem, "rename one of them")
