"""Bounds how many tasks of a process hold a model at once."""

from __future__ import annotations

from flare_async.jobs.spawners.slots import Slots

__all__ = ["Gate"]


class Gate(Slots[None]):
    """Lets ``places`` in at a time, first come, first served: each task of each site enters once.

    Who waits may wait for ever, and gives up its turn when it is cancelled.
    """

    __slots__ = ()

    def __init__(self, places: int) -> None:
        super().__init__([None] * places)

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, *_: object) -> None:
        self.release(None)
