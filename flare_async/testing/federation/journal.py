"""A journal of contributions that hears of each from two sides: the place of a famous mistake.

Whoever counts what comes at least once must mark a key as seen before it waits for anything. The
wrong order (look whether the key is there, wait for the disk, mark it) counts twice what comes
twice while the disk is busy. Both are here, so that a simulation can show that it finds the one and
not the other.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Literal

import anyio

from flare_async.testing.disk import SimDisk
from flare_async.testing.federation.evidence import Evidence

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

__all__ = ["Journal"]

SECOND_WORD = 0.2  # within so many seconds the same contribution may be told once more


class Journal:
    """Counts contributions, each once; ``kind`` says whether it does so rightly, or is empty."""

    def __init__(
        self,
        kind: Literal["", "marks first", "checks then awaits"],
        disk: SimDisk,
        evidence: Evidence,
        dice: random.Random,
    ) -> None:
        self._kind = kind
        self._disk = disk
        self._evidence = evidence
        self._dice = dice
        self._seen: set[tuple[int, str]] = set()

    def note(self, number: int, site: str, tasks: TaskGroup) -> None:
        """Hear of a contribution, and within a moment of the same once more."""
        if self._kind:
            tasks.start_soon(self._commit, number, site, 0.0)
            tasks.start_soon(self._commit, number, site, SECOND_WORD)

    async def _commit(self, number: int, site: str, within: float) -> None:
        key = (number, site)
        await anyio.sleep(within * self._dice.random())
        if key in self._seen:
            return
        if self._kind == "marks first":
            self._seen.add(key)
        await self._disk.append("journal", f"{number} {site}\n".encode())
        self._seen.add(key)
        self._evidence.counted[key] += 1
