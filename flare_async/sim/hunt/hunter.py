"""The hunt itself: seeds in several processes, failing cases made smaller, reports."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Final, TextIO

from flare_async.errors import LinkLost
from flare_async.jobs.spawners.handle import described_status
from flare_async.sim.hunt.case import Case, drawn_case
from flare_async.sim.hunt.judge import Finding, Judge
from flare_async.sim.hunt.play import Job, Outcome, play_case
from flare_async.testing.divergence import first_divergence

__all__ = ["OTHER_STORY", "Hunt", "Verdict", "as_line", "in_processes", "tell_found"]

SHOWN: Final = 12
LINE: Final = 200  # characters of a finding that is told in one line
OTHER_STORY: Final = (
    "played again it is another story: the job has a source of chance of its own, such as the"
    " clock, an unseeded generator or a file that a run leaves"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one seed has shown; without findings it is clean.

    ``story`` is the hash of what happened and of the last model.
    """

    seed: int
    options: str
    findings: tuple[str, ...] = ()
    story: str = ""


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
        outcome = play_case(self.job, case)
        found = tuple(str(one) for one in self.judge.findings(outcome))
        return Verdict(seed, case.line(), found, story_of(outcome))

    def report(self, verdict: Verdict, command: str) -> str:
        """Return all that is known of a failing seed."""
        lines = [f"seed {verdict.seed} fails; replay it with", f"  {command}"]
        if self.verdict(verdict.seed) != verdict:
            lines += self._told(verdict.findings)
            return "\n".join([*lines, f"  options: {verdict.options}", f"  {OTHER_STORY}"])
        case, outcome, found = self.smallest(verdict.seed)
        lines += self._told(map(str, found))
        lines += [f"  options: {verdict.options}"]
        lines += [f"  it fails with no more than: {case.line()}"]
        lines += [f"  {self._parting(case, outcome)}", "  the last of its story:"]
        lines += [f"    {line}" for line in outcome.story[-SHOWN:]]
        return "\n".join(lines)

    def _told(self, findings: Iterable[str]) -> Iterator[str]:
        for one in findings:
            head, *rest = one.splitlines()
            yield f"  {head}"
            yield from (f"    {line}" for line in rest[: 2 * SHOWN])

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
        """Return where the story leaves the passing one that it stays with for longest."""
        found: list[tuple[int, str]] = []
        for how, other in case.without():
            passing = play_case(self.job, other)
            if not self.judge.findings(passing):
                parting = first_divergence(outcome.story, passing.story)
                at = len(outcome.story) if parting is None else parting.at
                told = parting or "no line of the story"
                found.append((at, f"it passes {how}; first divergence at {told}"))
        if not found:
            return "it fails in the plain order of steps as well"
        return max(found, key=lambda one: one[0])[1]


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
                findings = tuple(fields["findings"])
                yield Verdict(fields["seed"], fields["options"], findings, fields["story"])


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


def story_of(outcome: Outcome) -> str:
    """Return the hash of what happened in a case, and of what it left."""
    text = "\n".join([*outcome.story, outcome.digest])
    return hashlib.sha256(text.encode()).hexdigest()


def as_line(verdict: Verdict) -> str:
    """Return a verdict as a line of JSON."""
    return json.dumps(asdict(verdict))


def tell_found(verdict: Verdict) -> None:
    """Say on standard error, at once, what a seed has shown; the report comes at the end.

    Every process of a hunt says it for itself, so a line is written as one.
    """
    for finding in verdict.findings:
        head = finding.partition("\n")[0][:LINE]
        sys.stderr.write(f"seed {verdict.seed} fails: {head}\n")
    sys.stderr.flush()
