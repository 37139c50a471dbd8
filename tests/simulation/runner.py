"""Runs seeds of scenarios on several processes and tells what failed."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import structlog

from flare_async.testing.divergence import report_of
from flare_async.testing.scenario import Verdict, play
from tests.simulation.scenarios import BY_NAME

__all__ = ["Tally", "command_of", "one_seed", "quiet", "run_seeds", "workers"]

CHUNK = 10  # seeds that a process takes at a time
REPORTS = 3  # failures of a scenario that are told at length


@dataclass
class Tally:
    """What the seeds of one scenario came to."""

    scenario: str
    seeds: int = 0
    rounds: int = 0
    seconds: float = 0.0  # of processor time
    struck: Counter = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add the seeds of another process."""
        self.seeds += other.seeds
        self.rounds += other.rounds
        self.seconds += other.seconds
        self.struck += other.struck
        self.failed += other.failed
        self.failures = (self.failures + other.failures)[:REPORTS]


def quiet() -> None:
    """Say nothing of what the product logs: in a simulation everything goes wrong all the time."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    gc.set_threshold(50_000, 20, 20)  # a run makes many objects, and little garbage in cycles


def workers(processes: int) -> ProcessPoolExecutor:
    """Return processes that run seeds; one that dies is an error, not a wait for ever."""
    fork = multiprocessing.get_context("fork")  # everything is imported, and no thread lives
    return ProcessPoolExecutor(processes, fork, initializer=quiet)


def command_of(scenario: str, seed: int) -> str:
    """Return the command that replays a seed."""
    return f"python -m tests.simulation --scenario {scenario} --seed {seed}"


def one_seed(scenario: str, seed: int, *, trace: bool = False) -> Verdict:
    """Run one seed."""
    return play(BY_NAME[scenario].setting(seed), trace=trace)


def run_chunk(chunk: tuple[str, range]) -> Tally:
    """Run some seeds of a scenario in this process."""
    scenario, seeds = chunk
    tally, began = Tally(scenario), time.process_time()
    for seed in seeds:
        verdict = one_seed(scenario, seed)
        tally.seeds += 1
        tally.rounds += len(verdict.evidence.kept)
        tally.struck += verdict.evidence.struck
        if not verdict.clean:
            tally.failed.append(seed)
            if len(tally.failures) < REPORTS:
                tally.failures.append(report_of(verdict, command_of(scenario, seed)))
    tally.seconds = time.process_time() - began
    return tally


def run_seeds(scenarios: Iterable[str], seeds: range, processes: int) -> Iterator[Tally]:
    """Run ``seeds`` of every scenario; yield what they came to, one scenario after the other."""
    names = list(scenarios)
    chunks = [
        (name, seeds[at : at + CHUNK]) for name in names for at in range(0, len(seeds), CHUNK)
    ]
    with workers(processes) as pool:
        found = pool.map(run_chunk, chunks)
        for name in names:
            total = Tally(name)
            for _ in range(0, len(seeds), CHUNK):
                total.add(next(found))
            yield total
