"""The server's side of a run's records: into the run, its folder and its trackers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import anyio
import structlog

from flare_async.jobs.history import dumps
from flare_async.jobs.records.lines import LineFile
from flare_async.jobs.records.rows import MetricRow
from flare_async.jobs.run import Run
from flare_async.jobs.trackers.feed import TrackedRun, Tracker, TrackerFeed
from flare_async.limits import MIB
from flare_async.ports import Store
from flare_async.roles.log_intake import LogIntake
from flare_async.roles.log_messages import Logged
from flare_async.roles.server import Server

__all__ = ["METRICS_FILE", "Keeping", "RecordKeeper", "keeping_records"]

METRICS_FILE: Final = "metrics.jsonl"
FILE_BYTES: Final = 1024 * MIB  # of a run's records on disk
SHARES: Final = 4  # a site may fill as much as a quarter of what is left
log = structlog.get_logger()


class RecordKeeper:
    """Keeps what arrives; a disk or a tracker that fails is logged, and the run goes on.

    A site that has filled more than its share of the file is not written any more, so that there
    is always room for the others.
    """

    def __init__(self, run: Run, store: Store, feeds: Sequence[TrackerFeed], origin: float) -> None:
        self._run = run
        self._file = LineFile(store, METRICS_FILE)
        self._feeds = feeds
        self._origin = origin
        self._left = FILE_BYTES
        self._filled: dict[str, int] = {}
        self._ended: set[str] = set()
        self._told = False

    async def take(self, site: str, records: Sequence[Logged], dropped: int) -> None:
        """Keep records of a site, and how many more of them were lost; waits for the disk."""
        metrics = self._run.metrics
        rows = [MetricRow.of(record, self._origin) for record in records]
        for row in rows:
            metrics.add(row)
        lines = [row.line() for row in rows]
        if dropped:
            if site not in metrics.dropped:  # the sum is in the run, and each loss in the file
                log.warning("records_dropped", site=site, records=dropped)
            metrics.dropped[site] = metrics.dropped.get(site, 0) + dropped
            lines.append(dumps({"site": site, "dropped": dropped}).encode() + b"\n")
        for feed in self._feeds:
            feed.put(rows)
        await self._write(site, b"".join(lines))

    async def _write(self, site: str, data: bytes) -> None:
        if site in self._ended or not data:
            return
        filled, left = self._filled.get(site, 0) + len(data), self._left - len(data)
        if filled * SHARES > left:
            self._ended.add(site)
            problem = f"it has filled its share, {self._left} bytes are left for others"
            log.warning("metrics_of_a_site_end", run=self._run.run_id, site=site, problem=problem)
            return
        self._filled[site], self._left = filled, left
        await self._file.append(data)
        if self._file.problem and not self._told:
            self._told = True
            log.warning("metrics_file_ends", run=self._run.run_id, problem=self._file.problem)


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
