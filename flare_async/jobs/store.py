"""The store port on a real folder: atomic writes, appends, reads, all by relative name."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

from flare_async.errors import WorkspaceError
from flare_async.jobs.threads import run_to_end
from flare_async.limits import MIB

__all__ = ["FolderStore", "new_run_folder"]

INLINE_BYTES = 1 * MIB  # what the page cache takes in well under a millisecond
MAX_RUNS = 100_000


class FolderStore:
    """Files of one run below ``folder``.

    ``durable=False`` leaves out the flush to disk: for a simulation, which is simply run again,
    and where it would cost more than everything else of a round.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self.folder = folder
        self._durable = durable

    async def write(self, name: str, chunks: Iterable[bytes | memoryview]) -> None:
        """Replace ``name`` by way of a temporary file beside it, so that it is never half there.

        Large or durable writes happen in a worker thread; cancelling waits for it to end.

        Raises:
            WorkspaceError: it cannot be written; the former content is still there.
        """
        parts = list(chunks)
        write = partial(self._write, self._path(name), parts)
        if not self._durable and sum(len(part) for part in parts) <= INLINE_BYTES:
            write()
        else:
            await run_to_end(write)

    async def append(self, name: str, data: bytes) -> None:
        """Append to ``name``; the system has it on return. Raises WorkspaceError."""
        path = self._path(name)
        try:
            if path.parent != self.folder:
                path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(data)
        except OSError as exc:
            raise unusable(path, exc) from exc

    async def read(self, name: str) -> bytes:
        """Return the whole of ``name``. Raises WorkspaceError."""
        path = self._path(name)
        try:
            return await asyncio.to_thread(path.read_bytes)
        except OSError as exc:
            raise unusable(path, exc) from exc

    def _path(self, name: str) -> Path:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise WorkspaceError("name", name, "leaves the run folder")
        return self.folder / name

    def _write(self, path: Path, parts: list[bytes | memoryview]) -> None:
        temporary = path.with_name(f".{path.name}.part")
        try:
            if path.parent != self.folder:
                path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                for part in parts:
                    file.write(part)
                if self._durable:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as exc:
            with suppress(OSError):  # what went wrong first is what is told
                temporary.unlink(missing_ok=True)
            raise unusable(path, exc) from exc


def unusable(path: Path, error: OSError) -> WorkspaceError:
    """Return the typed error for a path that cannot be used."""
    problem = error.strerror or str(error)
    return WorkspaceError("workspace", str(path), problem, "choose another --workspace")


def new_run_folder(root: Path, name: str) -> Path:
    """Make and return the folder of a new run: ``root/name-1``, ``-2`` and so on.

    Raises:
        WorkspaceError: the folder cannot be made.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        taken = {path.name for path in root.iterdir()}
        for number in range(1, MAX_RUNS):
            if f"{name}-{number}" in taken:
                continue
            folder = root / f"{name}-{number}"
            try:
                folder.mkdir()
            except FileExistsError:  # another process was faster
                continue
            return folder
    except OSError as exc:
        raise unusable(root, exc) from exc
    raise WorkspaceError("workspace", str(root), f"holds {MAX_RUNS} runs of {name!r}")
