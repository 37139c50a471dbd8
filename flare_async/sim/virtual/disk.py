"""The disks of virtual runs: one whose files lie in a folder too, and one of which sizes count."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from flare_async.errors import WorkspaceError
from flare_async.net.zeros import is_zeros
from flare_async.ports import Clock, Random
from flare_async.testing.disk import SimDisk

__all__ = ["LaidOutDisk", "SizesDisk"]


class LaidOutDisk(SimDisk):
    """A simulated disk that puts its files into a folder as well.

    Recipes and users find some files by their path, such as the best model. What an operation takes
    is the simulated disk's; the folder is told of it when it is over.
    """

    def __init__(self, clock: Clock, random: Random, folder: Path) -> None:
        super().__init__(clock, random)
        self._folder = folder

    async def write(self, name: str, chunks: Iterable[bytes | memoryview]) -> None:
        """Replace ``name``; bounded by the latency. Raises WorkspaceError."""
        await super().write(name, chunks)
        self._lay(name, self.files[name], "wb")

    async def append(self, name: str, data: bytes) -> None:
        """Append to ``name``; bounded by the latency. Raises WorkspaceError."""
        await super().append(name, data)
        self._lay(name, data, "ab")

    def others(self) -> dict[str, bytes]:
        """Return the files of the folder that somebody else has put there, by name."""
        found = {
            path.relative_to(self._folder).as_posix(): path
            for path in sorted(self._folder.rglob("*"))
            if path.is_file()
        }
        return {name: path.read_bytes() for name, path in found.items() if name not in self.files}

    def _lay(self, name: str, data: bytes, mode: Literal["wb", "ab"]) -> None:
        path = self._folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open(mode) as file:
                file.write(data)
        except OSError as exc:
            raise WorkspaceError("workspace", str(path), exc.strerror or str(exc)) from exc


class SizesDisk(SimDisk):
    """A simulated disk without what is of the zero page: of a model of zeros, its header."""

    async def write(self, name: str, chunks: Iterable[bytes | memoryview]) -> None:
        """Replace ``name``; bounded by the latency. Raises WorkspaceError."""
        await super().write(name, (chunk for chunk in chunks if not is_zeros(chunk)))
