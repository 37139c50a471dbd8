"""From any thread to the loop: what a site tracks, handed over without waiting."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from flare_async.jobs.records.weight import weight
from flare_async.limits import MIB
from flare_async.roles.log_record import LogRecord

__all__ = ["RecordPost"]

MOST_BYTES: Final = 16 * MIB  # of records that wait; some 40,000, which take the loop a second
log = structlog.get_logger()


class RecordPost:
    """Delivers records on the loop in the order of each thread; the oldest go where many wait."""

    def __init__(self, deliver: Callable[[str, LogRecord], None]) -> None:
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        # What the loop does with a record must not be told as the doing of the script's thread.
        self._context = contextvars.copy_context()
        self._waiting: deque[tuple[str, LogRecord, int]] = deque()
        self._nbytes = 0  # about: two threads may count at once; set right whenever nothing waits
        self._called = False
        self._dropped = 0

    def __call__(self, site: str, record: LogRecord) -> None:
        """Take a record of a site from any thread; after the loop's end it is dropped.

        On the loop itself it is delivered at once, ahead of what the site says next.
        """
        # Appending is atomic. Whoever finds the flag set was appended before the loop looks again,
        # because the loop takes the flag back first.
        nbytes = weight(record.key, record.value, record.extra)
        self._nbytes += nbytes
        self._waiting.append((site, record, nbytes))
        if running_loop() is self._loop:
            self.flush()
        while self._nbytes > MOST_BYTES and self._next() is not None:
            self._dropped += 1
        if self._called or not self._waiting:
            return
        self._called = True
        try:
            self._loop.call_soon_threadsafe(self._empty, context=self._context)
        except RuntimeError:  # closed
            self._waiting.clear()

    def flush(self) -> None:
        """Deliver what waits now; on the loop only."""
        while (record := self._next()) is not None:
            self._deliver(*record)
        self._nbytes = 0
        if self._dropped:
            log.warning("records_dropped", records=self._dropped, problem="the loop was busy")
            self._dropped = 0

    def _next(self) -> tuple[str, LogRecord] | None:
        try:
            site, record, nbytes = self._waiting.popleft()
        except IndexError:  # another thread was faster
            return None
        self._nbytes -= nbytes
        return site, record

    def _empty(self) -> None:
        self._called = False
        self.flush()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop of this thread, if it runs one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
