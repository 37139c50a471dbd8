"""What is wrong with a case that has been played."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from flare_async.errors import QuorumNotReached, TrainingFailed
from flare_async.jobs.history import RoundRecord
from flare_async.jobs.run import RunStatus
from flare_async.roles.outcome import SiteRecord, SiteStatus
from flare_async.sim.hunt.case import PLAIN, Case, Death
from flare_async.sim.hunt.play import Job, Outcome, play_case

__all__ = ["Finding", "Judge"]

DIED: Final = "trainer_signal"
SHOWN: Final = 12


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that does not hold, and what shows it."""

    rule: str
    problem: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.problem}"


@dataclass(slots=True)
class Judge:
    """Judges the cases of one job; remembers the plain runs that it compares with."""

    job: Job
    any_order: bool = False
    _plain: dict[object, str] = field(default_factory=dict)

    def findings(self, outcome: Outcome) -> list[Finding]:
        """Return what is wrong; nothing where all is well."""
        return [Finding(one.rule, outcome.named(one.problem)) for one in self._found(outcome)]

    def _found(self, outcome: Outcome) -> list[Finding]:
        found = list(self._ends(outcome))
        if found or outcome.run is None:
            return found
        found += self._counts_once(outcome)
        if outcome.checked:
            found.append(Finding("the job's check", outcome.checked))
        if not self.any_order:
            found += self._same_bits(outcome)
        return found

    def _ends(self, outcome: Outcome) -> Iterator[Finding]:
        if outcome.stuck:
            yield Finding("it ends", outcome.stuck)
        if outcome.broken:
            yield Finding("it leaves nothing", outcome.broken)
        run = outcome.run
        if run is None or run.status is RunStatus.COMPLETED:
            return
        cause = run.cause
        died = isinstance(cause, QuorumNotReached | TrainingFailed) and _some_died(outcome)
        few = isinstance(cause, QuorumNotReached) and (_closed_early(outcome) or _kept_off(outcome))
        if not died and not few:
            reason = "" if cause is None else f": {type(cause).__name__}: {cause}"
            yield Finding("it is completed", f"the run is {run.status}{reason}")

    def _counts_once(self, outcome: Outcome) -> Iterator[Finding]:
        if self.any_order or outcome.run is None:
            return  # without rounds a site may well have two updates in one step
        for record in outcome.run.history.rounds:
            counts = Counter(one.site for one in record.sites)
            for site, count in counts.items():
                if count > 1:
                    problem = f"{site} has {count} records in round {record.number}"
                    yield Finding("a site counts once", problem)

    def _same_bits(self, outcome: Outcome) -> Iterator[Finding]:
        if not outcome.digest or outcome.case == PLAIN:
            return
        lost = _lost(outcome)
        if lost is None or _kept_off(outcome):
            return  # who is late has trained all the same: no plain run does what it did
        plain = self._digest(lost)
        if plain != outcome.digest:
            problem = (
                f"the last model is {outcome.digest[:12]}; with the same participants, in the"
                f" plain order, it is {plain[:12]}: the result depends on the order of arrival"
            )
            yield Finding("the same participants give the same bits", problem)

    def _digest(self, lost: frozenset[Death]) -> str:
        found = self._plain.get(lost)
        if found is None:
            case: Case = dataclasses.replace(PLAIN, lost=lost)
            found = self._plain[lost] = play_case(self.job, case).digest
        return found


def _records(outcome: Outcome) -> Iterator[tuple[RoundRecord, SiteRecord]]:
    rounds = () if outcome.run is None else outcome.run.history.rounds
    for record in rounds:
        for one in record.sites:
            yield record, one


def _some_died(outcome: Outcome) -> bool:
    return any(one.code == DIED for _, one in _records(outcome)) or outcome.case.crash > 0


def _kept_off(outcome: Outcome) -> bool:
    """Say whether links that fail kept a site from the start, which does not wait for ever."""
    return bool(outcome.absent and outcome.case.faults)


def _closed_early(outcome: Outcome) -> bool:
    """Say whether the last round had enough sites, some of which its deadline found at work."""
    rounds = () if outcome.run is None else outcome.run.history.rounds
    if not rounds:
        return False
    there = sum(one.status in {SiteStatus.OK, SiteStatus.LATE} for one in rounds[-1].sites)
    return there >= rounds[-1].quorum


def _lost(outcome: Outcome) -> frozenset[Death] | None:
    """Return whose trainers died in which rounds; None where others are missing, too."""
    missing = [(of, one) for of, one in _records(outcome) if one.status is not SiteStatus.OK]
    if any(one.code != DIED for _, one in missing):
        return None
    return frozenset((of.number, kind_of(of), one.site) for of, one in missing)


def kind_of(record: RoundRecord) -> str:
    """Return the kind of a round's tasks, as sites see it."""
    return record.task if record.task in {"validate", "submit_model"} else "train"
