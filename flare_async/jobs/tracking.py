"""Trackers: where a run's records go beside its own folder, each in a worker thread of its own.

A tracker is a library that somebody else wrote: it may be slow, or fail. What it has not taken
waits in a bounded queue, the oldest rows go first, and whatever it raises ends that tracker and
nothing else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import anyio
import structlog

from flare_async.jobs.records import MetricRow
from flare_async.limits import Limits
from flare_async.roles.text import described, where

__all__ = ["Receiver", "TrackedRun", "Tracker", "TrackerFeed"]

MOST_ROWS: Final = 10_000  # that wait for one tracker
ROWS_A_CALL: Final = 1_000
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
    """Feeds one tracker; ``failed`` says what ended it, ``dropped`` counts rows it never got."""

    def __init__(self, tracker: Tracker, run: TrackedRun, limits: Limits) -> None:
        self.name = tracker.name
        self.failed = ""
        self.dropped = 0
        self.taken = 0
        self._tracker = tracker
        self._run = run
        self._limits = limits
        self._calling = False
        self._rows: deque[MetricRow] = deque()
        self._wake = asyncio.Event()
        self._closing = False

    def put(self, rows: Sequence[MetricRow]) -> None:
        """Queue rows; never waits."""
        if self.failed:
            self.dropped += len(rows)
            return
        self._rows.extend(rows)
        while len(self._rows) > MOST_ROWS:
            self._rows.popleft()
            self.dropped += 1
        self._wake.set()

    def finish(self) -> None:
        """Let ``run`` end when everything that is queued was taken."""
        self._closing = True
        self._wake.set()

    async def run(self) -> None:
        """Feed the tracker until ``finish``; never raises what the library raises.

        Each call of the library may take ``stall_timeout``; then its thread is abandoned. So is a
        call that is under way when this is cancelled; otherwise the tracker still gets
        ``shutdown_timeout`` to close.
        """
        receiver: list[Receiver] = []
        try:
            if await self._call("open", lambda: receiver.append(self._tracker.open(self._run))):
                await self._feed(receiver[0])
                await self._close(receiver[0], self._limits.stall_timeout)
        except asyncio.CancelledError:
            if receiver and not self._calling:
                with anyio.CancelScope(shield=True):
                    await self._close(receiver[0], self._limits.shutdown_timeout)
            raise
        finally:
            self.dropped += len(self._rows)
            self._rows.clear()
            if self.dropped:
                log.warning("tracker_dropped", tracker=self.name, rows=self.dropped)

    async def _close(self, receiver: Receiver, patience: float) -> None:
        await self._call("close", receiver.close, patience)

    async def _feed(self, receiver: Receiver) -> None:
        while not self.failed:
            if not self._rows:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            rows = [self._rows.popleft() for _ in range(min(ROWS_A_CALL, len(self._rows)))]
            if await self._call("take", lambda rows=rows: receiver.take(rows)):  # type: ignore[misc]
                self.taken += len(rows)
            else:
                self.dropped += len(rows)

    async def _call(
        self, step: str, call: Callable[[], None], patience: float | None = None
    ) -> bool:
        patience = patience or self._limits.stall_timeout
        self._calling = True
        try:
            with anyio.move_on_after(patience):
                await asyncio.to_thread(call)
                self._calling = False
                return True
            self._fail(f"{step}: took more than {patience:g} s", [])
        except Exception as exc:  # noqa: BLE001 - it is somebody else's library
            self._calling = False
            self._fail(f"{step}: {described(exc)}", where(exc))
        return False

    def _fail(self, problem: str, at: list[str]) -> None:
        if not self.failed:
            self.failed = problem
            log.warning("tracker_failed", tracker=self.name, problem=problem, at=at)
