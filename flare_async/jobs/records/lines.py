"""A file of lines that many write to at once: whoever comes while another waits is written along.

A thousand sites would otherwise open and close the file a thousand times a round.
"""

from __future__ import annotations

from typing import Final

import anyio

from flare_async.errors import FlareError
from flare_async.ports import Store

__all__ = ["LineFile"]

GATHERING: Final = 0.01  # seconds; short beside any round, long beside a write


class LineFile:
    """Appends to ``name``; ``problem`` is why nothing is written any more."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        self._waiting: list[bytes] = []
        self._written: anyio.Event | None = None  # of those that wait, if somebody writes for them
        self.problem = ""

    async def append(self, data: bytes) -> None:
        """Append whole lines; the system has them on return, or ``problem`` says why not.

        Waits for ``GATHERING`` and the disk. A writer that is cancelled writes first.
        """
        self._waiting.append(data)
        if self._written is not None:
            await self._written.wait()
            return
        written = self._written = anyio.Event()
        try:
            await anyio.sleep(GATHERING)
        finally:
            with anyio.CancelScope(shield=True):
                try:
                    await self._write()
                finally:
                    written.set()

    async def _write(self) -> None:
        data, self._waiting, self._written = b"".join(self._waiting), [], None
        if self.problem:
            return
        try:
            await self._store.append(self._name, data)
        except FlareError as exc:
            self.problem = str(exc)
