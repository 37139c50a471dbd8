"""The compiled scripts of a run, each compiled once."""

from __future__ import annotations

import threading
from pathlib import Path

from flare_async.jobs.jobfile import ScriptCode

__all__ = ["ScriptCodes"]


class ScriptCodes:
    """Compiles a file when it is first asked for, and again when it has changed."""

    __slots__ = ("_known", "_lock")

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int], ScriptCode]] = {}
        self._lock = threading.Lock()  # sites start at the same time, each in its thread

    def of(self, path: Path) -> ScriptCode:
        """Return the code of a file.

        Raises:
            OSError: it cannot be read.
            SyntaxError: it is no Python.
        """
        with self._lock:
            found = path.stat()
            state = (found.st_mtime_ns, found.st_size)
            known = self._known.get(path)
            if known is None or known[0] != state:
                known = self._known[path] = (state, ScriptCode(path))
            return known[1]
