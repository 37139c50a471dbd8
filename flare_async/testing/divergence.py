"""Where the story of a failing run leaves that of one that passes.

Two runs of one schedule are the same until something makes a difference, because every use of
random numbers has a stream of its own. So the best run to compare with is one of the same seed in
which one thing does not happen: the stories part where that thing begins to matter. Only where the
failure does not depend on any single thing, another order of steps is tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from flare_async.testing.faults import Fault
from flare_async.testing.federation.incidents import Incident
from flare_async.testing.federation.setting import Setting
from flare_async.testing.scenario import Verdict, play

__all__ = ["Divergence", "Twin", "first_divergence", "report_of", "twin_of"]

SCHEDULES: Final = 5
BEFORE: Final = 3
SHOWN: Final = 12
TASKS: Final = 30
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first line in which two stories differ; an empty line is the end of a story."""

    at: int
    before: tuple[str, ...]
    failing: str
    passing: str

    def __str__(self) -> str:
        shared = "".join(f"    both:    {line}\n" for line in self.before)
        return (
            f"line {self.at}:\n{shared}"
            f"    failing: {self.failing or 'is over'}\n    passing: {self.passing or 'is over'}"
        )


@dataclass(frozen=True, slots=True)
class Twin:
    """A run that passes and is almost the same; ``how`` says what is different."""

    how: str
    verdict: Verdict


def first_divergence(failing: Sequence[str], passing: Sequence[str]) -> Divergence | None:
    """Return where two stories part; None if they are the same."""
    for at in range(max(len(failing), len(passing))):
        one = failing[at] if at < len(failing) else ""
        other = passing[at] if at < len(passing) else ""
        if one != other:
            return Divergence(at, tuple(failing[max(0, at - BEFORE) : at]), one, other)
    return None


def variants(setting: Setting) -> Iterator[tuple[str, Setting]]:
    """Yield the setting without each of the things that go wrong in it."""
    if setting.buggify:
        yield "without buggify", replace(setting, buggify=0.0)
    for one in setting.incidents:
        nothing = Incident(at=one.at)  # in its place, so that up to then all steps are the same
        yield f"without {one!r}", replace(setting, incidents=but(setting.incidents, one, nothing))
    for fault in setting.faults:
        idle = Fault(site=fault.site, sites=fault.sites, direction=fault.direction)
        yield f"without {fault!r}", replace(setting, faults=but(setting.faults, fault, idle))
    for late in setting.late:
        yield f"without {late!r}", replace(setting, late=but(setting.late, late))
    for rogue in setting.rogues:
        yield f"without {rogue!r}", replace(setting, rogues=but(setting.rogues, rogue))


def but(values: tuple[T, ...], value: T, *instead: T) -> tuple[T, ...]:
    """Return the values with others in the place of that very one."""
    at = next(number for number, one in enumerate(values) if one is value)
    return (*values[:at], *instead, *values[at + 1 :])


def twin_of(failing: Verdict) -> Twin | None:
    """Return the passing run that stays with the failing one for longest; None if none passes."""
    found: list[tuple[int, Twin]] = []
    for how, setting in variants(failing.setting):
        verdict = play(setting)
        if verdict.clean:
            parting = first_divergence(story_of(failing), story_of(verdict))
            found.append((parting.at if parting else 0, Twin(how, verdict)))
    if found:
        return max(found, key=lambda one: one[0])[1]
    for number in range(1, SCHEDULES + 1):
        schedule = failing.setting.seed + 1_000_003 * number
        verdict = play(failing.setting, schedule=schedule)
        if verdict.clean:
            return Twin(f"with the order of steps of seed {schedule}", verdict)
    return None


def report_of(verdict: Verdict, command: str) -> str:
    """Return all that is known of a failing run: how to replay it, what broke, and where."""
    setting, evidence = verdict.setting, verdict.evidence
    lines = [f"{setting.scenario} seed {setting.seed} fails; replay it with", f"  {command}"]
    lines += [f"  {violation}" for violation in verdict.violations[:SHOWN]]
    lines += [f"  options: {setting.line()}", f"  {parting_of(verdict)}"]
    lines += ["  the last of its story:"]
    lines += [f"    {when:9.3f} s  {what}" for when, what in evidence.story[-SHOWN:]]
    waiting = evidence.pending.splitlines() or ["    (none)"]
    lines += ["  where its tasks waited:", *waiting[:TASKS]]
    if len(waiting) > TASKS:
        lines += [f"    ... and {len(waiting) - TASKS} more"]
    return "\n".join(lines)


def parting_of(verdict: Verdict) -> str:
    """Return in words where a failing run leaves a passing one."""
    twin = twin_of(verdict)
    if twin is None:
        return "it fails without any single one of these, and in any order of steps that was tried"
    found = first_divergence(story_of(verdict), story_of(twin.verdict))
    return f"it passes {twin.how}; first divergence at {found or 'no line of the story'}"


def story_of(verdict: Verdict) -> list[str]:
    """Return what happened, without when."""
    return [what for _, what in verdict.evidence.story]
