"""From any thread to the loop: what a site tracks, handed over without waiting."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from flare_async.roles.log_record import LogRecord

__all__ = ["RecordPost"]

MOST: Final = 100_000  # records that wait for the loop; more than it takes in a second
log = structlog.get_logger()


class RecordPost:
    """Delivers records on the loop in the order of each thread; the oldest go where many wait."""

    def __init__(self, deliver: Callable[[str, LogRecord], None]) -> None:
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[str, LogRecord]] = deque(maxlen=MOST)
        self._called = False
        self._dropped = 0

    def __call__(self, site: str, record: LogRecord) -> None:
        """Take a record of a site from any thread; after the loop's end it is dropped.

        On the loop itself it is delivered at once, ahead of what the site says next.
        """
        # Appending is atomic. Whoever finds the flag set was appended before the loop looks again,
        # because the loop takes the flag back first.
        self._dropped += len(self._waiting) == MOST
        self._waiting.append((site, record))
        if running_loop() is self._loop:
            self.flush()
        if self._called or not self._waiting:
            return
        self._called = True
        try:
            self._loop.call_soon_threadsafe(self._empty)
        except RuntimeError:  # closed
            self._waiting.clear()

    def flush(self) -> None:
        """Deliver what waits now; on the loop only."""
        while self._waiting:
            self._deliver(*self._waiting.popleft())
        if self._dropped:
            log.warning("records_dropped", records=self._dropped, problem="the loop was busy")
            self._dropped = 0

    def _empty(self) -> None:
        self._called = False
        self.flush()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop of this thread, if it runs one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
