"""A thread for somebody else's code: one call after the other, each waited for only so long.

A daemon: one that never comes back keeps neither the run nor the program's end waiting, as a worker
of the loop's own pool would.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeAlias

__all__ = ["CallThread", "Stuck"]

Call: TypeAlias = Callable[[], None]
Outcome: TypeAlias = asyncio.Future[BaseException | None]


class Stuck(Exception):
    """A call has not come back in time."""


class CallThread:
    """Starts with the first call and ends with ``end``; lives on one loop."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[tuple[Call, Outcome] | None] = SimpleQueue()
        self._under_way: Outcome | None = None
        self._started = False

    async def call(self, call: Call, patience: float) -> BaseException | None:
        """Run ``call``, wait for its end and return what it raised, if anything.

        Not raised here, because a library may as well call ``sys.exit``. ``Stuck`` is returned
        when it takes longer than ``patience`` seconds; it goes on then, as it does when this is
        cancelled, and the next call comes after it.
        """
        outcome: Outcome = self._loop.create_future()
        self._under_way = outcome
        self._calls.put((call, outcome))
        if not self._started:
            self._started = True
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        if not await self.idle(patience):
            return Stuck(f"took more than {patience:g} s")
        return outcome.result()

    async def idle(self, patience: float) -> bool:
        """Wait until no call is under way, for ``patience`` seconds; return whether that is so."""
        if self._under_way is None or self._under_way.done():
            return True
        await asyncio.wait([self._under_way], timeout=patience)
        return self._under_way.done()

    def end(self) -> None:
        """Let the thread return when its calls are done; harmless twice."""
        self._calls.put(None)

    def _work(self) -> None:
        while (waiting := self._calls.get()) is not None:
            call, outcome = waiting
            error: BaseException | None = None
            try:
                call()
            except BaseException as exc:  # noqa: BLE001 - a library may even call sys.exit
                error = exc
            try:
                self._loop.call_soon_threadsafe(_tell, outcome, error)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return
            del waiting, call, outcome, error


def _tell(outcome: Outcome, error: BaseException | None) -> None:
    if not outcome.done():
        outcome.set_result(error)
