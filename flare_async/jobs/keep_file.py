"""A recipe's own file in the run folder, under a name that is no other's."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Final

from flare_async.errors import ConfigError
from flare_async.jobs.run import BEST_MODEL, GLOBAL_MODEL
from flare_async.ports import Store

__all__ = ["kept_file"]

OF_EVERY_RUN: Final = frozenset({"history.jsonl", "run.json", BEST_MODEL, GLOBAL_MODEL})


async def kept_file(store: Store, folder: Path, name: str, content: bytes | memoryview) -> Path:
    """Write a file of a recipe's own below ``folder``; return where it is. Waits for the file.

    Raises:
        WorkspaceError: it cannot be written.
        ConfigError: the name leaves the folder, or is that of a file that every run has.
    """
    place = PurePosixPath(name)
    if not place.name or place.is_absolute() or ".." in place.parts:
        raise ConfigError("name", name, "a file below the run folder is needed")
    if str(place) in OF_EVERY_RUN:
        raise ConfigError("name", name, "is a file that every run has", "give it another name")
    await store.write(str(place), [content])
    return folder / place
