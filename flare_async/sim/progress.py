"""Where a run stands, folded from its events: what the live view and the plain lines show."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from flare_async.jobs.events import (
    MemoryPlanned,
    ModelEvaluated,
    RoundFinished,
    RoundStarted,
    RunEvent,
    RunFinished,
    RunStarted,
    SiteFinished,
    SiteStarted,
)
from flare_async.jobs.history import RoundRecord, SiteRecord, SiteStatus

__all__ = ["Progress", "SiteProgress", "SiteState"]


class SiteState(StrEnum):
    """What a site is doing now."""

    WAITING = "waiting"
    WORKING = "working"
    DONE = "done"
    FAILED = "failed"
    LATE = "late"


STATES = {
    SiteStatus.OK: SiteState.DONE,
    SiteStatus.FAILED: SiteState.FAILED,
    SiteStatus.REFUSED: SiteState.FAILED,
    SiteStatus.LATE: SiteState.LATE,
}


@dataclass(slots=True)
class SiteProgress:
    """One site: its state in this round and what it last reported."""

    name: str
    state: SiteState = SiteState.WAITING
    last: SiteRecord | None = None
    bytes_down: int = 0
    bytes_up: int = 0


@dataclass(slots=True)
class Progress:
    """The state of a run; ``see`` takes every event in order."""

    recipe: str = ""
    run_id: str = ""
    rounds: int = 0
    task: str = "start"
    completed: int = 0  # rounds of training
    status: str = "running"
    cause: str = ""
    sites: dict[str, SiteProgress] = field(default_factory=dict)
    models: list[Mapping[str, float]] = field(default_factory=list)
    best_version: int | None = None
    memory: str = ""
    bytes_down: int = 0
    bytes_up: int = 0

    def see(self, event: RunEvent) -> None:
        """Take one event into account."""
        match event:
            case MemoryPlanned() | RunStarted():
                self._begin(event)
            case RoundStarted():
                self._begin_round(event)
            case SiteStarted(site=site):
                self._site(site).state = SiteState.WORKING
            case SiteFinished(record=record):
                self._end_site(record)
            case RoundFinished(record=record):
                self._end_round(record)
            case ModelEvaluated():
                self._evaluate(event)
            case RunFinished():
                self.status, self.cause = event.status, event.cause

    def counts(self) -> Counter[SiteState]:
        """Return how many sites are in each state."""
        return Counter(site.state for site in self.sites.values())

    def scores(self, metric: str | None = None) -> list[float]:
        """Return one metric (the first by default) of every evaluated model so far."""
        if not self.models:
            return []
        name = metric or next(iter(self.models[0]), "")
        return [m[name] for m in self.models if math.isfinite(m.get(name, math.nan))]

    def _site(self, name: str) -> SiteProgress:
        return self.sites.setdefault(name, SiteProgress(name))

    def _begin(self, event: MemoryPlanned | RunStarted) -> None:
        if isinstance(event, MemoryPlanned):
            self.memory = event.plan.equation()
            return
        self.recipe, self.run_id, self.rounds = event.recipe, event.run_id, event.rounds
        self.sites = {name: SiteProgress(name) for name in event.sites}

    def _begin_round(self, event: RoundStarted) -> None:
        self.task = event.task
        for name in event.sites:
            self._site(name).state = SiteState.WAITING

    def _end_site(self, record: SiteRecord) -> None:
        site = self._site(record.site)
        site.state = STATES[record.status]
        if self.task == "train" or record.reason or site.last is None:
            site.last = record  # a validation tells nothing of training
        site.bytes_down += record.bytes_down
        site.bytes_up += record.bytes_up
        self.bytes_down += record.bytes_down
        self.bytes_up += record.bytes_up

    def _end_round(self, record: RoundRecord) -> None:
        if record.task == "train":
            self.completed += 1

    def _evaluate(self, event: ModelEvaluated) -> None:
        self.models.append(event.metrics)
        if event.best:
            self.best_version = event.version
