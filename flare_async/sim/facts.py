"""What the command line says about a run that has ended, gathered once for every form of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from flare_async.jobs.history import History
from flare_async.jobs.plan import MemoryPlan

if TYPE_CHECKING:
    from flare_async.jobs.run import Run

__all__ = ["Extras", "Figure", "RunFacts", "facts_of"]


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The figures of one run; the names are those of the ``--json`` document."""

    run_id: str
    recipe: str
    status: str
    history: History
    folder: Path
    clients: int = 0
    seed: int = 0
    model_digest: str | None = None
    wall_s: float = 0.0
    round_s_median: float = 0.0
    client_round_us: float = 0.0
    bytes_down: int = 0
    bytes_up: int = 0
    peak_rss_mb: float = 0.0
    plan: MemoryPlan | None = None
    cause: BaseException | None = None

    @property
    def completed(self) -> bool:
        """Whether the run reached its end."""
        return self.status == "completed"

    @property
    def rounds(self) -> int:
        """How many rounds of training were run."""
        return sum(record.task == "train" for record in self.history.rounds)

    @property
    def metrics(self) -> dict[str, float]:
        """The last metrics that were aggregated: of the model, else of the last round."""
        if self.history.models:
            return dict(self.history.models[-1].metrics)
        return dict(self.history.rounds[-1].metrics) if self.history.rounds else {}


@dataclass(frozen=True, slots=True)
class Figure:
    """One bar of a comparison, from 0 to 1, with a word on how it came about."""

    label: str
    value: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Extras:
    """What only this job knows: its data's distribution, a comparison, fields for ``--json``."""

    classes: Sequence[str] = ()
    class_counts: Mapping[str, Sequence[int]] = field(default_factory=dict)  # by site
    comparison: Sequence[Figure] = ()
    comparison_title: str = "Comparison"
    data_note: str = ""
    fields: Mapping[str, object] = field(default_factory=dict)
    again: str = ""  # the command line that repeats the run


def facts_of(run: Run) -> RunFacts:
    """Gather the figures of a run that has ended."""
    statistics = run.statistics
    tensors = run.model
    return RunFacts(
        run_id=run.run_id,
        recipe=run.recipe_name,
        status=str(run.status),
        history=run.history,
        folder=run.folder,
        clients=statistics.clients,
        seed=statistics.seed,
        model_digest=tensors.model_digest() if tensors is not None else None,
        wall_s=statistics.wall_s,
        round_s_median=statistics.round_s_median,
        client_round_us=statistics.client_round_us,
        bytes_down=statistics.bytes_down,
        bytes_up=statistics.bytes_up,
        peak_rss_mb=statistics.peak_rss_mb,
        plan=run.plan,
        cause=run.cause,
    )
