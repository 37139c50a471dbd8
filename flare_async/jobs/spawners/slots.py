"""A fixed number of slots, handed out in the order in which they were asked for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Generic, TypeVar

from flare_async.errors import LocalProtocolError

__all__ = ["Slots"]

SlotT = TypeVar("SlotT")


class Slots(Generic[SlotT]):
    """First come, first served. Slots stay in the deque; a parked future only wakes its waiter."""

    __slots__ = ("_closed", "_free", "_waiters")

    def __init__(self, slots: Iterable[SlotT]) -> None:
        self._free = deque(slots)
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many callers wait for a slot."""
        return len(self._waiters)

    @property
    def closed(self) -> bool:
        """Whether no slot is handed out any more."""
        return self._closed

    async def acquire(self) -> SlotT:
        """Return a free slot.

        Waits for ever: training may take as long as it needs, the round's deadline cancels the
        wait. A cancelled waiter gives up its place and holds nothing.

        Raises:
            LocalProtocolError: the spawner is closed, or closes meanwhile.
        """
        if self._waiters or not self._free:
            await self._park()
        if self._closed:
            raise LocalProtocolError("the spawner is closed: it runs only inside its async with")
        slot = self._free.popleft()
        # More may be free than those in line before took: who came behind a woken one is not woken.
        if self._free and self._waiters:
            self._wake()
        return slot

    async def _park(self) -> None:
        if self._closed:
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiters.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            self._waiters.remove(turn)
            self._wake()
            raise
        self._waiters.remove(turn)

    def release(self, slot: SlotT) -> None:
        """Give a slot back, or one that replaces it."""
        self._free.append(slot)
        if self._waiters:
            self._wake()

    def close(self) -> list[SlotT]:
        """Let every waiter fail, and return the slots that are free."""
        self._closed = True
        free = list(self._free)
        self._free.clear()
        for turn in self._waiters:
            _wake(turn)
        return free

    def _wake(self) -> None:
        # Whoever was woken stays in line until it runs, so that a newcomer cannot overtake it.
        for turn in islice(self._waiters, len(self._free)):
            _wake(turn)


def _wake(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
