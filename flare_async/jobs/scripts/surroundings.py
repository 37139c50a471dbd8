"""What scripts in threads find around them while a run goes on."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

from flare_async.jobs.scripts.argv import install_argv
from flare_async.jobs.scripts.output import install_output

__all__ = ["Surroundings"]


class Surroundings:
    """Changes this process for its scripts, from the first one on; ``restore`` undoes it all.

    The working directory is the caller's: a process has one.
    """

    __slots__ = ("_folders", "_undo")

    def __init__(self) -> None:
        self._undo = ExitStack()
        self._folders: set[str] = set()

    def prepare(self, script: Path) -> None:
        """Make ready for one more script: its folder can be imported from, like a program's."""
        if not self._folders:
            self._undo.callback(install_argv())
            self._undo.callback(install_output())
        folder = str(script.absolute().parent)
        if folder in self._folders:
            return
        self._folders.add(folder)
        sys.path.insert(0, folder)
        self._undo.callback(_forget, folder)

    def restore(self) -> None:
        """Put everything back; harmless twice."""
        self._undo.close()
        self._folders.clear()


def _forget(folder: str) -> None:
    if folder in sys.path:  # the script may have changed it
        sys.path.remove(folder)
