"""What a caller holds of a run: its status, history, models and folder, and the way to end it."""

from __future__ import annotations

import asyncio
import statistics as stats
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from flare_async.errors import RunAborted, RunFailed
from flare_async.jobs.conducting import cause_of
from flare_async.jobs.history import History
from flare_async.jobs.plan import MemoryPlan
from flare_async.jobs.records.rows import RunMetrics
from flare_async.transfer.files import read_file
from flare_async.transfer.tensors import TensorSet

__all__ = ["BEST_MODEL", "GLOBAL_MODEL", "Run", "RunStatistics", "RunStatus"]

GLOBAL_MODEL = "FL_global_model.safetensors"
BEST_MODEL = "best_FL_global_model.safetensors"


class RunStatus(StrEnum):
    """Where a run stands; the last three are final."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class RunStatistics:
    """What a run cost. Seconds, bytes of tensors over all rounds, megabytes of resident memory.

    ``client_round_us`` is the wall time of all rounds divided by the number of tasks.
    """

    wall_s: float = 0.0
    round_s_median: float = 0.0
    client_round_us: float = 0.0
    bytes_down: int = 0
    bytes_up: int = 0
    peak_rss_mb: float = 0.0
    clients: int = 0
    seed: int = 0

    @classmethod
    def of(
        cls, history: History, *, wall_s: float, peak_rss_mb: float, clients: int, seed: int
    ) -> RunStatistics:
        """Return the figures of a history."""
        rounds = [record for record in history.rounds if record.task == "train"]
        tasks = sum(len(record.sites) for record in history.rounds)
        total = sum(record.seconds for record in history.rounds)
        return cls(
            wall_s=wall_s,
            round_s_median=stats.median(record.seconds for record in rounds) if rounds else 0.0,
            client_round_us=total / tasks * 1e6 if tasks else 0.0,
            bytes_down=sum(record.bytes_down for record in history.rounds),
            bytes_up=sum(record.bytes_up for record in history.rounds),
            peak_rss_mb=peak_rss_mb,
            clients=clients,
            seed=seed,
        )


@dataclass(eq=False)
class Run:
    """A run, while it goes on and afterwards.

    ``model`` holds the tensors of the last global model, None as long as there is none. ``cause``
    is what made a run fail, ``plan`` what memory it was going to need, where that is known.
    ``metrics`` are the latest records that sites have logged; ``metrics.jsonl`` has all of them.
    """

    run_id: str
    recipe_name: str
    folder: Path
    status: RunStatus = RunStatus.RUNNING
    history: History = field(default_factory=History)
    metrics: RunMetrics = field(default_factory=RunMetrics)
    model: TensorSet | None = None
    cause: BaseException | None = None
    plan: MemoryPlan | None = None
    statistics: RunStatistics = field(default_factory=RunStatistics)
    _loop: asyncio.AbstractEventLoop | None = None
    _stop: Callable[[], None] | None = None
    _aborted: bool = False

    def __repr__(self) -> str:
        return f"<Run {self.run_id} {self.status}>"

    @property
    def best_model(self) -> TensorSet | None:
        """The best evaluated global model, read from its file; None where none was evaluated."""
        path = self.folder / BEST_MODEL
        return read_file(path) if path.exists() else None

    def get_status(self) -> str:
        """Return the status as text."""
        return str(self.status)

    def get_job_id(self) -> str:
        """Return the id of the run."""
        return self.run_id

    def get_result(self, timeout: float = 0.0) -> Path:
        """Return the run folder. ``timeout`` is accepted for scripts that give one.

        Raises:
            RunFailed: the run ended without its result.
            RunAborted: somebody ended it.
        """
        self.check()
        return self.folder

    def check(self) -> None:
        """Do nothing for a run that goes on or is completed.

        Raises:
            RunFailed: the run failed; its cause is the error's cause.
            RunAborted: somebody ended it.
        """
        if self.status is RunStatus.ABORTED:
            raise RunAborted(self.run_id, str(self.folder))
        if self.status is RunStatus.FAILED:
            problem = "unknown" if self.cause is None else cause_of(self.cause)
            raise RunFailed(self.run_id, problem, str(self.folder)) from self.cause

    def abort(self) -> None:
        """End the run soon, from any thread; harmless when it has ended, or twice.

        Training that runs on the loop itself ends first; a thread is abandoned, a process killed.
        """
        self._aborted = True
        if self.status is not RunStatus.RUNNING or self._loop is None or self._stop is None:
            return
        try:
            self._loop.call_soon_threadsafe(self._stop)
        except RuntimeError:  # the loop was closed meanwhile: the run has ended
            return

    def bind(self, loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
        """Say how this run is ended; for environments."""
        self._loop, self._stop = loop, stop
        if self._aborted:
            stop()

    @property
    def was_aborted(self) -> bool:
        """Whether ``abort`` was called."""
        return self._aborted

    def end(self, status: RunStatus, cause: BaseException | None = None) -> None:
        """Make the status final; the first call counts. For environments."""
        if self.status is RunStatus.RUNNING:
            self.status, self.cause = status, cause

    def explain(self) -> str:
        """Return in a few lines what happened and, where something went wrong, why."""
        lines = [f"{self.run_id} ({self.recipe_name}): {self.status}"]
        lines.append(f"{len(self.history.rounds)} rounds, {self.statistics.wall_s:.2f} s")
        if self.cause is not None:
            lines.append(f"cause: {type(self.cause).__name__}: {self.cause}")
            lines += getattr(self.cause, "__notes__", [])
        codes = self.history.failed_codes()
        for site, reason in self.history.failed_sites().items():
            code = codes.get(site, "")
            lines.append(f"{site}: {reason}" if code in reason else f"{site}: {code}: {reason}")
        best = self.history.best()
        if best is not None:
            shown = ", ".join(f"{key} {value:.4f}" for key, value in best.metrics.items())
            lines.append(f"best model: version {best.version} ({shown})")
        lines.append(f"folder: {self.folder}")
        return "\n".join(lines)
