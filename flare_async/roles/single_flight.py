"""One piece of work for all who ask for it while it is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from flare_async.errors import FlareError
from flare_async.net.callbacks import start_soon
from flare_async.roles.chunk_cache import wait_in, wake_all

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

__all__ = ["SingleFlight"]

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


@dataclass(slots=True)
class _Flight(Generic[ValueT]):
    """Work under way, and what came of it."""

    value: ValueT | None = None
    error: FlareError | None = None
    waiting: list[asyncio.Future[None]] = field(default_factory=list)


class SingleFlight(Generic[KeyT, ValueT]):
    """Does ``work(key)`` once at a time for a key; nothing of it is kept."""

    def __init__(self, work: Callable[[KeyT], Awaitable[ValueT]], tasks: TaskGroup) -> None:
        self._work = work
        self._tasks = tasks
        self._flights: dict[KeyT, _Flight[ValueT]] = {}

    async def get(self, key: KeyT) -> ValueT:
        """Return what the work gives; waits for it, and cancelling leaves it to the others.

        Raises:
            FlareError: what the work raised.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight()
            start_soon(self._tasks, self._do, key, flight, name="single flight")
        while flight.value is None:
            if flight.error is not None:
                raise flight.error
            await wait_in(flight.waiting)
        return flight.value

    async def _do(self, key: KeyT, flight: _Flight[ValueT]) -> None:
        try:
            flight.value = await self._work(key)
        except FlareError as exc:
            flight.error = exc
        finally:
            del self._flights[key]
            wake_all(flight.waiting)
