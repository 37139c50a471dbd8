"""What an observer of a run is told, as it happens.

An observer is a plain function called on the loop; it must not block and must not raise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flare_async.jobs.history import RoundRecord, SiteRecord
from flare_async.jobs.plan import MemoryPlan

__all__ = [
    "MemoryPlanned",
    "ModelEvaluated",
    "Observer",
    "RoundFinished",
    "RoundStarted",
    "RunEvent",
    "RunFinished",
    "RunStarted",
    "SiteFinished",
    "SiteStarted",
]


@dataclass(frozen=True, slots=True)
class MemoryPlanned:
    """What the run will hold at most; comes first, and also where that is too much."""

    plan: MemoryPlan


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The sites are connected and the first round is about to begin."""

    run_id: str
    recipe: str
    sites: tuple[str, ...]
    rounds: int
    folder: Path


@dataclass(frozen=True, slots=True)
class RoundStarted:
    """A round began; ``task`` is ``train`` or ``validate``."""

    number: int
    task: str
    sites: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SiteStarted:
    """A site was given its task."""

    number: int
    site: str


@dataclass(frozen=True, slots=True)
class SiteFinished:
    """A site's part of a round ended, well or not."""

    number: int
    record: SiteRecord


@dataclass(frozen=True, slots=True)
class RoundFinished:
    """A round ended with a new global model (or an evaluation)."""

    record: RoundRecord


@dataclass(frozen=True, slots=True)
class ModelEvaluated:
    """A version of the global model was evaluated by the sites; version 0 is the initial one."""

    version: int
    metrics: Mapping[str, float]
    best: bool


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The run ended; ``status`` as in ``Run.status``, ``cause`` the error's text."""

    status: str
    cause: str = ""


RunEvent = (
    MemoryPlanned
    | RunStarted
    | RoundStarted
    | SiteStarted
    | SiteFinished
    | RoundFinished
    | ModelEvaluated
    | RunFinished
)
Observer = Callable[[RunEvent], None]
