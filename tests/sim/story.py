"""Made-up runs for tests of what is shown of a run."""

from __future__ import annotations

from pathlib import Path

from flare_async.jobs.events import (
    ModelEvaluated,
    RoundFinished,
    RoundStarted,
    RunEvent,
    RunFinished,
    RunStarted,
    SiteFinished,
    SiteStarted,
)
from flare_async.jobs.history import History, ModelRecord, RoundRecord, SiteRecord, SiteStatus
from flare_async.jobs.plan import MemoryPlan, Part
from flare_async.sim.facts import Extras, Figure, RunFacts

__all__ = ["NASTY", "events_of", "extras", "facts", "history", "site_record"]

NASTY = '<script>alert("x")</script>\x1b[31m & co'


def site_record(number: int, index: int, *, reason: str = "", name: str = "") -> SiteRecord:
    """Return one site in one round; a reason makes it a failure."""
    started = number + index / 100
    return SiteRecord(
        site=name or f"site-{index + 1}",
        status=SiteStatus.FAILED if reason else SiteStatus.OK,
        started=started,
        ended=started + 0.5,
        train_seconds=0.0 if reason else 0.25,
        weight=0.0 if reason else 10.0 * (index + 1),
        metrics={} if reason else {"loss": 1 / (number + 1)},
        reason=reason,
        bytes_down=1000,
        bytes_up=0 if reason else 900,
    )


def history(sites: int = 4, rounds: int = 3, *, bad: str = "", name: str = "") -> History:
    """Return a history; with ``bad`` the last site fails in every round for that reason."""
    made = History(models=[ModelRecord(0, {"accuracy": 0.1, "loss": 2.3}, best=True)])
    for number in range(rounds):
        records = [
            site_record(number, index, reason=bad if index == sites - 1 else "", name=name)
            for index in range(sites)
        ]
        loss = {"loss": 1 / (number + 1)}
        made.rounds.append(RoundRecord(number, number, number + 0.9, 2, records, loss))
        score = {"accuracy": 0.5 + number / 10, "loss": 2 / (number + 2)}
        made.models.append(ModelRecord(number + 1, score, best=True))
    return made


def facts(
    folder: Path, made: History, *, status: str = "completed", cause: BaseException | None = None
) -> RunFacts:
    """Return the figures of a made-up run."""
    return RunFacts(
        run_id="digits-1",
        recipe="digits",
        status=status,
        history=made,
        folder=folder,
        clients=4,
        seed=7,
        model_digest="ab" * 32,
        wall_s=3.21,
        round_s_median=0.9,
        client_round_us=1234.5,
        bytes_down=12_000,
        bytes_up=10_800,
        peak_rss_mb=300.0,
        plan=MemoryPlan((Part("base", 200_000_000), Part("models", 55_000_000, "2 x model"))),
        cause=cause,
    )


def extras(sites: int = 4) -> Extras:
    """Return what a job adds."""
    return Extras(
        classes=["0", "1", "2"],
        class_counts={f"site-{i + 1}": [i, 10, 0] for i in range(sites)},
        comparison=(Figure("federated", 0.94, "a note"), Figure("pooled", 0.96)),
        comparison_title="Comparison",
        data_note="how the data came about",
        fields={"test_accuracy": 0.94},
        again="python -m flare_async.sim",
    )


def events_of(made: History, folder: Path) -> list[RunEvent]:
    """Return the events that a run with this history sends."""
    names = tuple(site.site for site in made.rounds[0].sites)
    events: list[RunEvent] = [RunStarted("digits-1", "digits", names, len(made.rounds), folder)]
    for record in made.rounds:
        events.append(RoundStarted(record.number, record.task, names))
        for site in record.sites:
            events += [SiteStarted(record.number, site.site), SiteFinished(record.number, site)]
        model = made.models[record.number + 1]
        events.append(RoundFinished(record))
        events.append(ModelEvaluated(model.version, model.metrics, model.best))
    return [*events, RunFinished("completed")]
