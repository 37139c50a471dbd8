"""Weights & Biases: one run a site, offline in the run folder unless another mode is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

from flare_async.errors import ConfigError, MissingExtra
from flare_async.jobs.records.rows import MetricRow
from flare_async.jobs.trackers.feed import Receiver, TrackedRun
from flare_async.jobs.trackers.steps import Steps
from flare_async.roles.log_record import AnalyticsDataType

if TYPE_CHECKING:
    import wandb

__all__ = ["WandBTracker"]

Mode = Literal["offline", "online", "disabled"]
KNOWN: Final = ("config", "entity", "group", "job_type", "name", "notes", "project", "tags")
STEP: Final = "global_step"
MOST_TAGS: Final = 100  # the latest


@dataclass(frozen=True, slots=True)
class WandBTracker:
    """Starts a run for each site, with ``wandb_args`` for ``wandb.init``.

    ``events`` and ``process_timeout`` are accepted and needed for nothing.

    Raises:
        ConfigError: an unknown mode, or a name in ``wandb_args`` that is not passed on.
    """

    wandb_args: Mapping[str, object] | None = None
    mode: Mode = "offline"
    events: object = None
    process_timeout: float = 10.0
    name: str = "wandb"

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ConfigError("mode", self.mode, f"use one of {', '.join(get_args(Mode))}")
        unknown = sorted(set(self.wandb_args or {}) - set(KNOWN))
        if unknown:
            raise ConfigError("wandb_args", unknown, "unknown names", f"known: {', '.join(KNOWN)}")

    def check(self) -> None:
        """Raise MissingExtra when wandb is not installed."""
        try:
            import wandb

            del wandb  # it is there
        except ImportError as exc:
            raise MissingExtra("wandb", "tracking") from exc

    def open(self, run: TrackedRun) -> Receiver:
        """Return the receiver of a run; a site's run is started with its first row."""
        self.check()
        return WandBReceiver(run, self)


class WandBReceiver:
    """The runs of a job's sites, in one group."""

    def __init__(self, run: TrackedRun, tracker: WandBTracker) -> None:
        self._run = run
        self._tracker = tracker
        self._steps = Steps()
        self._runs: dict[str, wandb.Run] = {}

    def take(self, rows: Sequence[MetricRow]) -> None:
        """Log numbers; parameters become the run's config, tags its tags, texts its summary."""
        for row in rows:
            run = self._of(row.site)
            match AnalyticsDataType(row.kind):
                case AnalyticsDataType.PARAMETER | AnalyticsDataType.PARAMETERS:
                    run.config.update(_words(row), allow_val_change=True)
                case AnalyticsDataType.TAG | AnalyticsDataType.TAGS:
                    named = [f"{key}:{value}"[:64] for key, value in _words(row).items()]
                    known = dict.fromkeys((*(run.tags or ()), *named))
                    run.tags = tuple(known)[-MOST_TAGS:]
                case _:
                    self._log(run, row)

    def close(self) -> None:
        """Finish all runs."""
        with ExitStack() as stack:
            for run in self._runs.values():
                stack.callback(run.finish)

    def _log(self, run: wandb.Run, row: MetricRow) -> None:
        numbers, step = row.numbers(), self._steps.of(row)
        if row.key == "metrics":  # the name under which ``WandBWriter`` logs all of a call
            numbers = {key.removeprefix("metrics/"): item for key, item in numbers.items()}
        if numbers:
            # wandb drops what has a smaller step than the last call; sites log in any order.
            run.log({**numbers, STEP: step, "round": row.round_number})
        else:
            run.summary[row.key] = str(row.value)

    def _of(self, site: str) -> wandb.Run:
        run = self._runs.get(site)
        if run is None:
            run = self._runs[site] = self._start(site)
        return run

    def _start(self, site: str) -> wandb.Run:
        import wandb

        given = dict(self._tracker.wandb_args or {})
        name = str(given.pop("name", self._run.run_id))
        options = {"project": self._run.recipe, "group": self._run.run_id, **given}
        run = wandb.init(
            name=f"{site}-{name}",
            dir=str(self._run.folder),
            mode=self._tracker.mode,
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", disable_git=True),
            **options,
        )
        run.define_metric("*", step_metric=STEP)
        return run


def _words(row: MetricRow) -> dict[str, object]:
    return dict(row.value) if isinstance(row.value, Mapping) else {row.key: row.value}
