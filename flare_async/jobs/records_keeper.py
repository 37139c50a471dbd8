"""The server's side of a run's records: into the run, its folder and its trackers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import anyio
import structlog

from flare_async.errors import FlareError
from flare_async.jobs.history import dumps
from flare_async.jobs.records import MetricRow
from flare_async.jobs.run import Run
from flare_async.jobs.tracking import TrackedRun, Tracker, TrackerFeed
from flare_async.limits import MIB
from flare_async.ports import Store
from flare_async.roles.log_intake import LogIntake
from flare_async.roles.log_messages import Logged
from flare_async.roles.server import Server

__all__ = ["METRICS_FILE", "Keeping", "RecordKeeper", "keeping_records"]

METRICS_FILE: Final = "metrics.jsonl"
FILE_BYTES: Final = 1024 * MIB  # of a run's records on disk
log = structlog.get_logger()


class RecordKeeper:
    """Keeps what arrives; a disk or a tracker that fails is logged, and the run goes on."""

    def __init__(self, run: Run, store: Store, feeds: Sequence[TrackerFeed], origin: float) -> None:
        self._run = run
        self._store = store
        self._feeds = feeds
        self._origin = origin
        self._written = 0
        self._full = False

    async def take(self, site: str, records: Sequence[Logged], dropped: int) -> None:
        """Keep records of a site, and how many more of them were lost; waits for the disk."""
        metrics = self._run.metrics
        rows = [MetricRow.of(record, self._origin) for record in records]
        lines = [row.line() for row in rows]
        for row, line in zip(rows, lines, strict=True):
            metrics.add(row, len(line))
        if dropped:
            metrics.dropped[site] = metrics.dropped.get(site, 0) + dropped
            lines.append(dumps({"site": site, "dropped": dropped}).encode() + b"\n")
            log.warning("records_dropped", site=site, records=dropped)
        for feed in self._feeds:
            feed.put(rows)
        await self._write(b"".join(lines))

    async def _write(self, data: bytes) -> None:
        if self._full:
            return
        self._written += len(data)
        try:
            if self._written <= FILE_BYTES:
                await self._store.append(METRICS_FILE, data)
                return
            problem = f"{FILE_BYTES} bytes are written"
        except FlareError as exc:
            problem = str(exc)
        self._full = True
        log.warning("metrics_file_ends", run=self._run.run_id, problem=problem)


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Keeping:
    """What ``keeping_records`` is to do: for which run, with which trackers.

    ``eager`` are sites that are asked from the start; the others once they say that they have
    something. ``flush`` is called before the last records are asked for.
    """

    run: Run
    store: Store
    trackers: Sequence[Tracker] = ()
    eager: Iterable[str] = ()
    flush: Callable[[], None] = _nothing


@asynccontextmanager
async def keeping_records(server: Server, keeping: Keeping) -> AsyncIterator[LogIntake]:
    """Take and keep the records of a run while the block lasts.

    Leaving it takes what the sites still have and lets the trackers end: bounded by
    ``shutdown_timeout`` without progress for the sites and ``stall_timeout`` for a call of a
    tracker. Cancelling leaves out both.
    """
    run, context = keeping.run, server.context
    tracked = TrackedRun(run.run_id, run.recipe_name, run.folder)
    feeds = [TrackerFeed(tracker, tracked, context.limits) for tracker in keeping.trackers]
    keeper = RecordKeeper(run, keeping.store, feeds, context.clock.now())
    intake = LogIntake(server, run.run_id, keeper)
    failed: Exception | None = None
    async with anyio.create_task_group() as tasks:
        for feed in feeds:
            tasks.start_soon(feed.run, name=f"tracker {feed.name}")
        for site in keeping.eager:
            intake.want(site)
        try:
            yield intake
        except Exception as exc:  # noqa: BLE001 - raised below, when everything is kept
            failed = exc
        except BaseException:
            intake.stop()
            raise
        keeping.flush()
        await intake.finish()
        for feed in feeds:
            feed.finish()
    if failed is not None:
        raise failed
