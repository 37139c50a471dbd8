"""Trackers: where a run's records go beside its own folder, each in a thread of its own.

A tracker is a library that somebody else wrote: it may be slow, or fail. What it has not taken
waits in a bounded queue, the oldest rows go first, and whatever it raises is that tracker's trouble
and nobody else's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import anyio
import structlog

from flare_async.jobs.records.rows import MetricRow
from flare_async.jobs.trackers.thread import CallThread, Stuck
from flare_async.limits import Limits
from flare_async.roles.text import described, where

__all__ = ["Receiver", "TrackedRun", "Tracker", "TrackerFeed"]

MOST_NUMBERS: Final = 10_000  # that wait for one tracker
NUMBERS_A_CALL: Final = 1_000
MOST_FAILURES: Final = 6  # calls in a row that raise, of several sites: then it is the tracker
MOST_OF_A_SITE: Final = 3  # likewise of one site: then it is the site
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """What a tracker is told of a run."""

    run_id: str
    recipe: str
    folder: Path


class Receiver(Protocol):
    """A tracker of one run; its methods may block, and are called one after the other."""

    def take(self, rows: Sequence[MetricRow]) -> None:
        """Pass rows on to the library."""

    def close(self) -> None:
        """Bring everything to where it belongs."""


class Tracker(Protocol):
    """What a recipe says of a tracker; one may serve several runs."""

    @property
    def name(self) -> str:
        """What it is called in the log."""

    def check(self) -> None:
        """Raise MissingExtra when its library is not installed."""

    def open(self, run: TrackedRun) -> Receiver:
        """Return the receiver of a run; may block."""


class TrackerFeed:
    """Feeds one tracker; ``failed`` says what ended it, ``dropped`` counts rows it never got.

    A call has the rows of one site. One that raises loses them; a site whose rows raise again and
    again is left out, and a tracker that takes nothing from anybody is ended.
    """

    def __init__(self, tracker: Tracker, run: TrackedRun, limits: Limits) -> None:
        self.name = tracker.name
        self.failed = ""
        self.dropped = 0
        self.taken = 0
        self._tracker = tracker
        self._run = run
        self._limits = limits
        self._thread = CallThread(f"tracker {tracker.name}")
        self._rows: deque[MetricRow] = deque()
        self._numbers = 0  # of the rows that wait
        self._failures = 0  # in a row
        self._failures_of: dict[str, int] = {}  # of a site in a row
        self._wake = asyncio.Event()
        self._closing = False

    def put(self, rows: Sequence[MetricRow]) -> None:
        """Queue rows; never waits."""
        if self.failed:
            self.dropped += len(rows)
            return
        self._rows.extend(rows)
        self._numbers += sum(map(numbers_in, rows))
        while self._numbers > MOST_NUMBERS and len(self._rows) > 1:
            self._next()
            self.dropped += 1
        self._wake.set()

    def finish(self) -> None:
        """Let ``run`` end when everything that is queued was taken."""
        self._closing = True
        self._wake.set()

    async def run(self) -> None:
        """Feed the tracker until ``finish``; never raises what the library raises.

        Each call of the library may take ``stall_timeout``; then its thread is abandoned. When
        this is cancelled, the call under way and the tracker's closing get ``shutdown_timeout``.
        """
        receiver: list[Receiver] = []
        try:
            if await self._call("open", lambda: receiver.append(self._tracker.open(self._run))):
                await self._feed(receiver[0])
                await self._close(receiver[0], self._limits.stall_timeout)
        except asyncio.CancelledError:
            patience = self._limits.shutdown_timeout
            with anyio.CancelScope(shield=True):
                if await self._thread.idle(patience) and receiver:
                    await self._close(receiver[0], patience)
            raise
        finally:
            self._thread.end()
            self.dropped += len(self._rows)
            self._rows.clear()
            if self.dropped:
                log.warning("tracker_dropped", tracker=self.name, rows=self.dropped)

    async def _close(self, receiver: Receiver, patience: float) -> None:
        if await self._thread.idle(0):
            await self._call("close", receiver.close, patience)

    async def _feed(self, receiver: Receiver) -> None:
        while not self.failed:
            if not self._rows:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            rows = self._next_of_one_site()
            site = rows[0].site
            if self._failures_of.get(site, 0) >= MOST_OF_A_SITE:
                self.dropped += len(rows)
            elif await self._call("take", partial(receiver.take, rows), site=site):
                self.taken += len(rows)
            else:
                self.dropped += len(rows)

    def _next(self) -> MetricRow:
        row = self._rows.popleft()
        self._numbers -= numbers_in(row)
        return row

    def _next_of_one_site(self) -> list[MetricRow]:
        rows = [self._next()]
        site, numbers = rows[0].site, numbers_in(rows[0])
        while self._rows and self._rows[0].site == site and numbers < NUMBERS_A_CALL:
            rows.append(self._next())
            numbers += numbers_in(rows[-1])
        return rows

    async def _call(
        self, step: str, call: Callable[[], None], patience: float | None = None, site: str = ""
    ) -> bool:
        error = await self._thread.call(call, patience or self._limits.stall_timeout)
        if error is None:
            self._failures = 0
            self._failures_of.pop(site, None)
            return True
        self._failures += 1
        self._failures_of[site] = self._failures_of.get(site, 0) + 1
        problem, at = f"{step}: {error}", list[str]()
        if not isinstance(error, Stuck):
            problem, at = f"{step}: {described(error)}", where(error)
        log.warning("tracker_failed", tracker=self.name, site=site, problem=problem, at=at)
        if step != "take" or isinstance(error, Stuck) or self._failures >= MOST_FAILURES:
            self.failed = self.failed or problem
        return False


def numbers_in(row: MetricRow) -> int:
    """Return how many entries a row makes in a tracker."""
    return max(1, len(row.value)) if isinstance(row.value, Mapping) else 1
