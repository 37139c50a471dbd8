"""The hunt itself: seeds in several processes, failing cases made smaller, reports."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Final, TextIO

from flare_async.errors import LinkLost
from flare_async.jobs.spawners.handle import described_status
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

    Each plays every so-manieth seed, and writes its lines into a file: a pipe would hold it up
    while another one is read.

    Raises:
        LinkLost: one of them ended too early; its messages went to standard error.
    """
    parts = (seeds[at::processes] for at in range(processes))
    with ExitStack() as stack:
        running = [begun(stack, [*words, *part_words(part)]) for part in parts if part]
        for process, lines in running:
            if process.wait():
                raise LinkLost(
                    "the hunt", f"a process of it {described_status(process.returncode)}"
                )
            lines.seek(0)
            for line in lines:
                fields = json.loads(line)
                yield Verdict(fields["seed"], fields["options"], tuple(fields["findings"]))


def begun(stack: ExitStack, words: Sequence[str]) -> tuple[subprocess.Popen[bytes], TextIO]:
    """Start a part, which ends with the stack; return it and the file of its lines."""
    file = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - the stack closes it
    lines = stack.enter_context(file)
    command = [sys.executable, "-m", "flare_async.sim.hunt.part", *words]
    process = stack.enter_context(subprocess.Popen(command, stdout=lines))
    stack.callback(process.kill)
    return process, lines


def part_words(part: range) -> list[str]:
    """Return a range of seeds as words."""
    return [str(part.start), str(part.stop), str(part.step)]


def as_line(verdict: Verdict) -> str:
    """Return a verdict as a line of JSON."""
    return json.dumps(asdict(verdict))
