"""A cohort with a run around it: history, checkpoints, evaluated versions of the model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from flare_async.errors import FlareError
from flare_async.jobs.awaiting import Unawaited, awaiting
from flare_async.jobs.cohort_setting import CohortSetting, Recording, shifted
from flare_async.jobs.events import (
    ModelEvaluated,
    RoundFinished,
    RoundStarted,
    SiteFinished,
    SiteStarted,
)
from flare_async.jobs.filters.cohort import FilteredCohort
from flare_async.jobs.history import ModelRecord, RoundRecord, dumps
from flare_async.jobs.keep_file import kept_file
from flare_async.jobs.known_sites import KnownSites
from flare_async.jobs.memory import is_due, return_memory
from flare_async.jobs.repull import Repull
from flare_async.jobs.run import BEST_MODEL, GLOBAL_MODEL, Run
from flare_async.jobs.threads import run_to_end
from flare_async.limits import MIB
from flare_async.ports import Store
from flare_async.roles.messages import RECEIVED, Scalar
from flare_async.roles.outcome import SiteRecord, SiteStatus
from flare_async.roles.round import RoundTask, Update
from flare_async.roles.server import Server
from flare_async.transfer.files import file_chunks
from flare_async.transfer.mean import WeightedMean
from flare_async.transfer.repull import RepulledMean
from flare_async.transfer.tensors import TensorSet

if TYPE_CHECKING:
    from flare_async.jobs.metrics import Better

__all__ = ["CohortSetting", "JobCohort", "Recording"]

INLINE_BYTES = 4 * MIB  # of model: a few milliseconds of arithmetic


@awaiting("checkpoint", "evaluated", "finish", "formed", "keep_file", "note", "settle")
class JobCohort(KnownSites, FilteredCohort):
    """What ``Recipe.coordinate`` gets: rounds, and the means to record and keep their results."""

    def __init__(
        self, server: Server, sites: Sequence[str], run: Run, store: Store, setting: CohortSetting
    ) -> None:
        super().__init__(server, sites, self, setting.window)
        self.run = run
        self.history = run.history
        self.seed = setting.seed
        self._keep_until = setting.keep_until
        self._store = store
        self._observer_of_run = setting.observer
        self._clock = server.context.clock
        self._origin = self._clock.now()
        self._records: dict[str, SiteRecord] = {}
        self.unawaited = Unawaited()
        self.asked = 0  # tasks that were given to sites
        self._unwritten: TensorSet | None = None  # the first model, until there is another
        self._writing: anyio.Event | None = None
        self._failed: FlareError | None = None

    def task(
        self,
        number: int,
        total: int,
        name: str = "train",
        meta: Mapping[str, Scalar] | None = None,
        *,
        keep_until: str | None = None,
    ) -> RoundTask:
        """Return the task of one round, numbered from 0.

        ``keep_until`` is the receipt after which sites let go of an update; the environment's own
        choice unless it is given.
        """
        return RoundTask(
            job=self.run.run_id,
            number=number,
            total=total,
            name=name,
            meta=dict(meta or {}),
            keep_until=keep_until or self._keep_until,
        )

    @asynccontextmanager
    async def recording(
        self, task: RoundTask, sites: Sequence[str], quorum: int
    ) -> AsyncIterator[Recording]:
        """Record the round of the block, well or not, in the history and its file.

        What the block puts into ``metrics`` becomes the round's. A round that fails is recorded
        with what its sites reached.
        """
        self._records = {}
        self._observer_of_run(RoundStarted(task.number, task.name, tuple(sites)))
        recording = Recording(self._clock.now() - self._origin)
        try:
            yield recording
        except FlareError:
            await self._end_round(task, recording, quorum)
            raise
        await self._end_round(task, recording, quorum)

    async def _end_round(self, task: RoundTask, recording: Recording, quorum: int) -> None:
        place = {site: index for index, site in enumerate(self.sites)}
        sites = sorted(self._records.values(), key=lambda record: place[record.site])
        record = RoundRecord(
            number=task.number,
            started=recording.started,
            ended=self._clock.now() - self._origin,
            quorum=quorum,
            sites=tuple(sites),
            metrics=dict(recording.metrics),
            task=task.name,
            aggregator=recording.aggregator,
        )
        await self._keep(record)

    async def formed(
        self,
        version: int,
        records: Sequence[SiteRecord],
        metrics: Mapping[str, float],
        quorum: int,
    ) -> None:
        """Record a version of the model that was formed without a round, of these parts.

        It stands in the history as round ``version - 1`` does; a site may have several parts.
        """
        rounds = self.history.rounds
        record = RoundRecord(
            number=version - 1,
            started=rounds[-1].ended if rounds else 0.0,
            ended=self._clock.now() - self._origin,
            quorum=quorum,
            sites=tuple(shifted(record, self._origin) for record in records),
            metrics=dict(metrics),
        )
        await self._keep(record)

    async def note(self, file: str, row: Mapping[str, object]) -> None:
        """Append a line of JSON to a file of the run. Raises WorkspaceError."""
        await self._store.append(file, dumps(row).encode() + b"\n")

    async def keep_file(self, name: str, content: bytes | memoryview) -> Path:
        """Write a file of the recipe's own below the run folder; return where it is.

        It replaces a former one and is never half there. Waits for the file; cancelling waits for
        its end.

        Raises:
            WorkspaceError: it cannot be written.
            ConfigError: the name leaves the folder, or is that of a file that every run has.
        """
        return await kept_file(self._store, self.run.folder, name, content)

    async def _keep(self, record: RoundRecord) -> None:
        self.history.rounds.append(record)
        line = dumps(self.history.row(record))
        await self._store.append("history.jsonl", line.encode() + b"\n")
        self._observer_of_run(RoundFinished(record))

    async def finish(
        self, mean: WeightedMean | RepulledMean, updates: Sequence[Update] = ()
    ) -> TensorSet:
        """Return the mean's new model; a large one is computed off the loop.

        Waits for arithmetic only, and cancelling waits for its end. A ``RepulledMean`` pulls the
        ``updates`` again: bounded as pulls are, and cancelling loses nothing.

        Raises:
            LocalProtocolError: no update was committed.
        """
        if isinstance(mean, RepulledMean):
            try:
                return await mean.pull_again(Repull(self.server, updates))
            finally:
                self._note_lost(mean.lost)
        if mean.nbytes <= INLINE_BYTES:
            return mean.finish()
        return await run_to_end(mean.finish)

    def _note_lost(self, lost: Mapping[str, FlareError]) -> None:
        """Record sites whose updates had arrived, and could not be pulled again to be added."""
        for site, error in lost.items():
            record = self._records.get(site)
            if record is not None:
                reason = f"could not be pulled again: {error}"
                self._records[site] = replace(
                    record, status=SiteStatus.FAILED, weight=0.0, reason=reason
                )

    async def return_memory(self, number: int, nbytes: int, *every: int | None) -> None:
        """Give memory back to the system when one of ``every`` says that round ``number`` is due.

        ``nbytes`` is the size of the model. Sites of this process share its memory, so what they
        ask for counts as well. Waits for the collector and the allocator.
        """
        if any(is_due(number, rounds, nbytes) for rounds in every):
            await run_to_end(return_memory)

    async def checkpoint(self, model: TensorSet, version: int, *, behind: bool = False) -> None:
        """Keep ``model`` as the run's global model; on return it can be read back.

        ``behind`` lets a large one be written while the sites go on, or, as version 0, not before
        ``settle``: where they let go of an update once it is received, nobody waits for the file.
        Waits for the former model's file in any case, and raises what became of it.

        Raises:
            WorkspaceError: it cannot be written.
        """
        self._unwritten = None
        await self._written()
        if not behind or self._keep_until != RECEIVED or model.nbytes <= INLINE_BYTES:
            await self._write(model, version)
        elif version == 0:
            self._unwritten = model
        else:
            self._writing = anyio.Event()
            self.server.context.tasks.start_soon(
                self._write_behind, model, version, self._writing, name="write a checkpoint"
            )

    async def settle(self) -> None:
        """Wait until the newest model is in its file, cancelled or not.

        Raises:
            WorkspaceError: it cannot be written.
        """
        with anyio.CancelScope(shield=True):
            await self._written()
            model, self._unwritten = self._unwritten, None
            if model is not None:
                await self._write(model, 0)

    async def _written(self) -> None:
        if self._writing is not None:
            await self._writing.wait()
        failed, self._writing, self._failed = self._failed, None, None
        if failed is not None:
            raise failed

    async def _write(self, model: TensorSet, version: int) -> None:
        metadata = {"version": str(version), "run": self.run.run_id}
        await self._store.write(GLOBAL_MODEL, file_chunks(model, metadata))
        self.run.model = model

    async def _write_behind(self, model: TensorSet, version: int, done: anyio.Event) -> None:
        try:
            await self._write(model, version)
        except FlareError as exc:
            self._failed = exc
        finally:
            done.set()

    async def evaluated(
        self,
        model: TensorSet | None,
        version: int,
        metrics: Mapping[str, float],
        better: Better | None,
    ) -> bool:
        """Record how a version did; the best one so far is kept as a file, if it is here."""
        best = self.history.best()
        is_best = better is not None and better(metrics, None if best is None else best.metrics)
        self.history.models.append(ModelRecord(version, dict(metrics), is_best))
        self._observer_of_run(ModelEvaluated(version, dict(metrics), is_best))
        if is_best and model is not None:
            metadata = {"version": str(version), "run": self.run.run_id}
            await self._store.write(BEST_MODEL, file_chunks(model, metadata))
        return is_best

    # RoundObserver

    def site_started(self, number: int, site: str) -> None:
        """Pass on that a site was given its task."""
        self.asked += 1
        self._observer_of_run(SiteStarted(number, site))

    def site_finished(self, number: int, record: SiteRecord) -> None:
        """Keep and pass on how a site's part ended, in seconds of the run."""
        moved = shifted(record, self._origin)
        self._records[record.site] = moved
        self._observer_of_run(SiteFinished(number, moved))
