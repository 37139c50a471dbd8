"""What happened in a run, a record a round: the source of reports, tables and ``history.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from flare_async.errors import MissingExtra
from flare_async.roles.outcome import SiteRecord, SiteStatus

if TYPE_CHECKING:
    import pandas

__all__ = ["History", "ModelRecord", "RoundRecord", "SiteRecord", "SiteStatus", "dumps", "finite"]


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """One round; numbers count from 0, times are seconds since the run began."""

    number: int
    started: float
    ended: float
    quorum: int
    sites: Sequence[SiteRecord]
    metrics: Mapping[str, float] = field(default_factory=dict)  # weighted mean over the sites
    task: str = "train"
    aggregator: str = ""  # the site that ran it, where that was not the server

    @property
    def seconds(self) -> float:
        """How long the round took."""
        return self.ended - self.started

    @property
    def arrived(self) -> int:
        """How many updates are in the aggregate."""
        return sum(site.status is SiteStatus.OK for site in self.sites)

    @property
    def bytes_down(self) -> int:
        """Tensor bytes that the sites received."""
        return sum(site.bytes_down for site in self.sites)

    @property
    def bytes_up(self) -> int:
        """Tensor bytes that the sites sent."""
        return sum(site.bytes_up for site in self.sites)


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """How one version of the global model did; version 0 is the initial model."""

    version: int
    metrics: Mapping[str, float]
    best: bool  # the best so far by the key metric


@dataclass(slots=True)
class History:
    """All rounds of a run and all evaluated versions of its model."""

    rounds: list[RoundRecord] = field(default_factory=list)
    models: list[ModelRecord] = field(default_factory=list)

    def best(self) -> ModelRecord | None:
        """Return the best evaluated version, or None where nothing was evaluated."""
        return next((model for model in reversed(self.models) if model.best), None)

    def failed_sites(self) -> dict[str, str]:
        """Return the last reason of each site that failed or was refused in some round."""
        bad = (SiteStatus.FAILED, SiteStatus.REFUSED)
        return {
            site.site: site.reason
            for record in self.rounds
            for site in record.sites
            if site.status in bad
        }

    def failed_codes(self) -> dict[str, str]:
        """Return the error codes of the same failures, such as ``trainer_idle``."""
        failed = self.failed_sites()
        codes = {
            site.site: site.code for record in self.rounds for site in record.sites if site.code
        }
        return {site: codes[site] for site in failed if site in codes}

    def rows(self) -> list[dict[str, object]]:
        """Return a flat row a round, as in ``--json`` and ``history.jsonl``."""
        return [self.row(record) for record in self.rounds]

    def row(self, record: RoundRecord) -> dict[str, object]:
        """Return one round as a flat row."""
        return {
            "round": record.number,
            "task": record.task,
            "started_s": record.started,
            "seconds": record.seconds,
            "arrived": record.arrived,
            "quorum": record.quorum,
            "bytes_down": record.bytes_down,
            "bytes_up": record.bytes_up,
            "metrics": dict(record.metrics),
            "received_metrics": self._metrics_of(record.number),
            "sites": [site.row() for site in record.sites],
            **({"aggregator": record.aggregator} if record.aggregator else {}),
        }

    def _metrics_of(self, version: int) -> dict[str, float]:
        # A round starts from the version of its own number, which its sites evaluate first.
        found = [model.metrics for model in self.models[-2:] if model.version == version]
        found = found or [model.metrics for model in self.models if model.version == version]
        return dict(found[0]) if found else {}

    def to_json(self) -> str:
        """Return all rows as one JSON array; a metric that is not finite becomes null."""
        return dumps(self.rows())

    def to_pandas(self) -> pandas.DataFrame:
        """Return a row a round and site. Raises MissingExtra without pandas."""
        try:
            import pandas
        except ImportError as exc:
            raise MissingExtra("pandas", "pandas") from exc
        rows = [
            {"round": record.number, **site.row()}
            for record in self.rounds
            for site in record.sites
        ]
        return pandas.DataFrame(rows)

    def plot(self, path: str | Path) -> Path:
        """Write the learning curves as a PNG picture. Raises MissingExtra without matplotlib."""
        from flare_async.jobs.picture import draw_curves

        return draw_curves(self, Path(path))


def dumps(value: object) -> str:
    """Return ``value`` as JSON, with null for numbers that JSON cannot hold."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(finite(value), allow_nan=False)


def finite(value: object) -> object:
    """Return ``value`` with every number that JSON cannot hold (NaN, infinities) as None."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
