"""MLflow: one experiment, one MLflow run a site; a file of SQLite in the run folder by default."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog

from flare_async.errors import ConfigError, MissingExtra
from flare_async.jobs.records.rows import MetricRow
from flare_async.jobs.trackers.feed import Receiver, TrackedRun
from flare_async.jobs.trackers.steps import Steps
from flare_async.roles.log_record import AnalyticsDataType

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

__all__ = ["MLflowTracker"]

KNOWN: Final = ("experiment_name", "experiment_tags", "run_name", "run_tags")
MOST_METRICS: Final = 1000  # that MLflow takes at once
MOST_WORDS: Final = 100
MOST_PARAMS: Final = 10_000  # whose values are remembered; further ones are written as tags
LONGEST_WORD: Final = 5000
PARAMETERS: Final = {AnalyticsDataType.PARAMETER, AnalyticsDataType.PARAMETERS}
TAGS: Final = {AnalyticsDataType.TAG, AnalyticsDataType.TAGS}
log = structlog.get_logger()
FORBIDDEN: Final = re.compile(r"[^\w\-. :/]")


@dataclass(frozen=True, slots=True)
class MLflowTracker:
    """Writes to ``tracking_uri``, or to ``mlflow.db`` in the run folder.

    ``kw_args`` may have experiment_name, experiment_tags, run_name and run_tags. ``events`` and
    ``buffer_flush_time`` are accepted and needed for nothing: rows are written as they come.

    Raises:
        ConfigError: ``kw_args`` has another name.
    """

    tracking_uri: str | None = None
    kw_args: Mapping[str, object] | None = None
    artifact_location: str | None = None
    events: object = None
    buffer_flush_time: float = 1.0
    name: str = "mlflow"

    def __post_init__(self) -> None:
        unknown = sorted(set(self.kw_args or {}) - set(KNOWN))
        if unknown:
            raise ConfigError("kw_args", unknown, "unknown names", f"known: {', '.join(KNOWN)}")

    def check(self) -> None:
        """Raise MissingExtra when MLflow, or what it needs for SQLite, is not installed."""
        try:
            import mlflow
            import sqlalchemy  # mlflow-skinny comes without

            del mlflow, sqlalchemy  # they are there
        except ImportError as exc:
            raise MissingExtra(exc.name or "mlflow", "tracking") from exc

    def open(self, run: TrackedRun) -> Receiver:
        """Return the receiver of a run; connects to the store."""
        self.check()
        from mlflow.tracking import MlflowClient

        options = self.kw_args or {}
        local = self.tracking_uri is None
        uri = f"sqlite:///{run.folder / 'mlflow.db'}" if local else self.tracking_uri
        place = self.artifact_location
        if place is None and local:
            place = (run.folder / "mlflow_artifacts").as_uri()
        client = MlflowClient(uri, uri)
        title = str(options.get("experiment_name") or run.recipe)
        labels = _texts(options.get("experiment_tags"))
        found = client.get_experiment_by_name(title)
        number = found.experiment_id if found else client.create_experiment(title, place, labels)
        name = str(options.get("run_name") or run.run_id)
        return MLflowReceiver(
            client, Naming(number, name, {"job": run.run_id, **_texts(options.get("run_tags"))})
        )


@dataclass(frozen=True, slots=True)
class Naming:
    """Under which experiment, name and tags the runs of a job's sites stand."""

    experiment: str
    run: str
    tags: Mapping[str, str]


@dataclass(slots=True)
class Batch:
    """What goes to one site's run at once."""

    metrics: list[Metric] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


class MLflowReceiver:
    """Writes a batch a site."""

    def __init__(self, client: MlflowClient, naming: Naming) -> None:
        self._client = client
        self._naming = naming
        self._steps = Steps()
        self._runs: dict[str, str] = {}
        self._params: dict[tuple[str, str], str] = {}
        self._began = time.time()

    def take(self, rows: Sequence[MetricRow]) -> None:
        """Write rows by site; a parameter that changes becomes a tag, because MLflow keeps it."""
        batches: dict[str, Batch] = {}
        for row in rows:
            self._sort(row, batches.setdefault(row.site, Batch()))
        for site, batch in batches.items():
            self._write(self._run(site), batch)

    def close(self) -> None:
        """Mark the runs as finished."""
        for run in self._runs.values():
            self._client.set_terminated(run)

    def _sort(self, row: MetricRow, batch: Batch) -> None:
        from mlflow.entities import Metric

        if row.kind in PARAMETERS or row.kind in TAGS:
            for key, value in _words(row):
                self._sort_word(row, batch, key, value)
            return
        numbers, step = row.numbers(), self._steps.of(row)
        at = int((self._began + row.at) * 1000)
        for key, number in numbers.items():
            # MLflow's own writer gives its numbers no common name.
            name = key.removeprefix("metrics/") if row.key == "metrics" else key
            batch.metrics.append(Metric(_name(name), number, at, step))
        if not numbers:
            batch.texts[_path(row)] = str(row.value)

    def _sort_word(self, row: MetricRow, batch: Batch, key: str, value: str) -> None:
        name = (row.site, key)
        is_param = row.kind in PARAMETERS and self._params.get(name, value) == value
        if is_param and (name in self._params or len(self._params) < MOST_PARAMS):
            self._params[name] = value
            batch.params[key] = value
        else:
            batch.tags[key] = value

    def _run(self, site: str) -> str:
        run = self._runs.get(site)
        if run is None:
            naming = self._naming
            tags, name = {**naming.tags, "site": site}, f"{site}-{naming.run}"
            made = self._client.create_run(naming.experiment, tags=tags, run_name=name)
            run = self._runs[site] = str(made.info.run_id)
        return run

    def _write(self, run: str, batch: Batch) -> None:
        from mlflow.entities import Param, RunTag

        for at in range(0, len(batch.metrics), MOST_METRICS):
            self._client.log_batch(run, metrics=batch.metrics[at : at + MOST_METRICS])
        params = [Param(key, value) for key, value in batch.params.items()]
        for at in range(0, len(params), MOST_WORDS):
            self._client.log_batch(run, params=params[at : at + MOST_WORDS])
        tags = [RunTag(key, value) for key, value in batch.tags.items()]
        for at in range(0, len(tags), MOST_WORDS):
            self._client.log_batch(run, tags=tags[at : at + MOST_WORDS])
        for path, text in batch.texts.items():
            try:
                self._client.log_text(run, text, path)
            except OSError as exc:  # a site may name a file where another one is a folder
                log.warning("text_not_kept", path=path, error=str(exc))


def _words(row: MetricRow) -> Iterator[tuple[str, str]]:
    words = row.value if isinstance(row.value, Mapping) else {row.key: row.value}
    for key, value in words.items():
        yield _name(key), str(value)[:LONGEST_WORD]


def _name(key: str) -> str:
    """Return a name that MLflow takes: no path that leads upwards, no odd characters."""
    parts = [part for part in FORBIDDEN.sub("_", key).split("/") if part.strip(".")]
    return "/".join(parts)[:250] or "_"


def _path(row: MetricRow) -> str:
    path = row.extra.get("path")
    name = _name(path if isinstance(path, str) else row.key)
    return name if "." in name else f"{name}.txt"


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {}
    return {str(key): str(item) for key, item in value.items()}
