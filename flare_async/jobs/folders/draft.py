"""A job folder while it is written: files get their names, nothing is there until all of it is."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import BinaryIO

from flare_async.errors import ConfigError, WorkspaceError
from flare_async.jobs.folders.code import Entry, modules_of
from flare_async.jobs.folders.names import (
    JOB_FILE,
    MOST_FILES,
    checked_name,
    files_below,
    unlike_others,
)
from flare_async.transfer.files import file_chunks, open_regular
from flare_async.transfer.tensors import TensorSet

__all__ = ["Draft"]

Write = Callable[[BinaryIO], None]


class Draft:
    """Collects what goes into a folder; ``write`` puts it there."""

    def __init__(self) -> None:
        self._files: dict[str, Write] = {}
        self._sources: dict[str, Path] = {}
        self._roots: dict[Path, str] = {}

    def tensors(self, field: str, name: str, tensors: TensorSet, said: Mapping[str, str]) -> str:
        """Add a safetensors file and return its name."""
        free = self._free(name)
        self._add(field, free, partial(write_tensors, tensors, said))
        return free

    def code(self, field: str, path: Path, package: str = "") -> str:
        """Add a file of code with the modules that it imports, and return its name.

        Raises:
            ConfigError: it cannot be read as Python, or has a name that not every system takes.
        """
        entry = Entry.of(path.absolute(), package)
        known = self._roots.setdefault(entry.root, folder_name(len(self._roots)))
        for name, source in modules_of(field, entry).items():
            self._copy(field, f"{known}/{name}", source)
        return f"{known}/{entry.name}"

    def file(self, field: str, path: Path, folder: str = "files") -> str:
        """Add a file, or a folder with all files in it, and return its name.

        Raises:
            ConfigError: there is no such file, or it is neither.
        """
        if path.is_dir():
            name = self._free(f"{folder}/{path.name}")
            for inner, source in files_below(field, path).items():
                self._copy(field, f"{name}/{inner}", source)
            return name
        name = f"{folder}/{path.name}"
        if self._sources.get(name) != path.absolute():
            name = self._free(name)
        self._copy(field, name, path)
        return name

    def write(self, folder: Path, document: Mapping[str, object]) -> None:
        """Write the folder with its ``job.json``; one that is there already stays as it is.

        Raises:
            WorkspaceError: it exists, or cannot be written.
        """
        unlike_others("job", dict.fromkeys(self._files, folder))
        if folder.exists():
            problem = "exists already"
            raise WorkspaceError("job_dir", str(folder), problem, "remove it, or export elsewhere")
        text = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        except OSError as exc:
            raise unwritten(folder, exc) from exc
        try:
            files: dict[str, Write] = {**self._files, JOB_FILE: partial(write_text, text)}
            for name, write in files.items():
                (made / name).parent.mkdir(parents=True, exist_ok=True)
                with (made / name).open("wb") as file:
                    write(file)
            made.chmod(0o755)
            os.rename(made, folder)  # noqa: PTH104 - onto nothing, or an empty folder
        except OSError as exc:
            raise unwritten(folder, exc) from exc
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def _copy(self, field: str, name: str, source: Path) -> None:
        place = source.absolute()
        if self._sources.get(name) == place:
            return
        if not place.is_file():
            raise ConfigError(field, str(source), "there is no such file")
        self._sources[name] = place
        self._add(field, name, partial(write_copy, place))

    def _add(self, field: str, name: str, write: Write) -> None:
        self._files[checked_name(field, name)] = write
        if len(self._files) > MOST_FILES:
            raise ConfigError(field, name, f"a job has at most {MOST_FILES} files")

    def _free(self, name: str) -> str:
        """Return the name, or one like it that no file has and that is no folder yet."""
        folder, _, last = name.rpartition("/")
        number, taken = 1, {*self._files, *(str(p) for f in self._files for p in Path(f).parents)}
        lower = {one.lower() for one in taken}
        while name.lower() in lower:
            number += 1
            name = f"{folder}-{number}/{last}" if folder else f"{number}-{last}"
        return name


def folder_name(index: int) -> str:
    """Return where files of one folder go: code, code-2, ..."""
    return "code" if index == 0 else f"code-{index + 1}"


def write_tensors(tensors: TensorSet, said: Mapping[str, str], file: BinaryIO) -> None:
    """Write a safetensors file."""
    file.writelines(file_chunks(tensors, said))


def write_text(text: str, file: BinaryIO) -> None:
    """Write text."""
    file.write(text.encode())


def write_copy(source: Path, file: BinaryIO) -> None:
    """Copy a regular file; a pipe is never opened."""
    with os.fdopen(open_regular(source), "rb") as content:
        shutil.copyfileobj(content, file)


def unwritten(folder: Path, error: OSError) -> WorkspaceError:
    """Return the error of a folder that cannot be written."""
    return WorkspaceError("job_dir", str(folder), f"cannot be written: {error.strerror or error}")
