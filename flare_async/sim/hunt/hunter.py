"""The hunt itself: seeds in several processes, failing cases made smaller, reports."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Final

from flare_async.sim.hunt.case import Case, drawn_case
from flare_async.sim.hunt.judge import Finding, Judge
from flare_async.sim.hunt.play import Job, Outcome, play_case
from flare_async.testing.divergence import first_divergence

__all__ = ["Hunt", "Verdict", "in_processes"]

SHOWN: Final = 12


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one seed has shown; without findings it is clean."""

    seed: int
    options: str
    findings: tuple[str, ...] = ()


@dataclass(slots=True)
class Hunt:
    """Plays and judges the cases of one job."""

    job: Job
    judge: Judge
    may_lose: bool

    def case(self, seed: int) -> Case:
        """Return what a seed stands for."""
        return drawn_case(seed, self.job.sites, may_lose=self.may_lose)

    def verdict(self, seed: int) -> Verdict:
        """Play one seed."""
        case = self.case(seed)
        found = self.judge.findings(play_case(self.job, case))
        return Verdict(seed, case.line(), tuple(str(one) for one in found))

    def report(self, seed: int, command: str) -> str:
        """Return all that is known of a failing seed."""
        case, outcome, found = self.smallest(seed)
        lines = [f"seed {seed} fails; replay it with", f"  {command}"]
        for one in found:
            head, *rest = str(one).splitlines()
            lines += [f"  {head}", *(f"    {line}" for line in rest[: 2 * SHOWN])]
        lines += [f"  options: {self.case(seed).line()}"]
        lines += [f"  it fails with no more than: {case.line()}"]
        lines += [f"  {self._parting(case, outcome)}", "  the last of its story:"]
        lines += [f"    {line}" for line in outcome.story[-SHOWN:]]
        return "\n".join(lines)

    def smallest(self, seed: int) -> tuple[Case, Outcome, list[Finding]]:
        """Return the failing case without all that it fails without as well."""
        case = self.case(seed)
        outcome = play_case(self.job, case)
        found = self.judge.findings(outcome)
        smaller = True
        while smaller:
            smaller = False
            for _, less in case.without():
                tried = play_case(self.job, less)
                still = self.judge.findings(tried)
                if still:
                    case, outcome, found, smaller = less, tried, still, True
                    break
        return case, outcome, found

    def _parting(self, case: Case, outcome: Outcome) -> str:
        for how, other in case.without():
            passing = play_case(self.job, other)
            if not self.judge.findings(passing):
                parting = first_divergence(outcome.story, passing.story)
                return f"it passes {how}; first divergence at {parting or 'no line of the story'}"
        return "it fails in the plain order of steps as well"


def in_processes(words: Sequence[str], seeds: range, processes: int) -> Iterator[Verdict]:
    """Yield the verdicts of all seeds, from as many processes as are asked for.

    Each is this command with every so-manieth seed; its lines come as they are printed.

    Raises:
        subprocess.CalledProcessError: one of them failed; its messages went to standard error.
    """
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "flare_async.sim.hunt.part", *words, *part_words(part)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for part in (seeds[at::processes] for at in range(processes))
        if part
    ]
    with ExitStack() as stack:
        for process in running:
            stack.enter_context(process)
            stack.callback(process.kill)
        for process in running:
            for line in process.stdout or ():
                fields = json.loads(line)
                yield Verdict(fields["seed"], fields["options"], tuple(fields["findings"]))
            if process.wait():
                raise subprocess.CalledProcessError(process.returncode, process.args)


def part_words(part: range) -> list[str]:
    """Return a range of seeds as words."""
    return [str(part.start), str(part.stop), str(part.step)]


def as_line(verdict: Verdict) -> str:
    """Return a verdict as a line of JSON."""
    return json.dumps(asdict(verdict))
