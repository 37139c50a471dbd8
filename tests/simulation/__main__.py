"""Runs the simulation: ``python -m tests.simulation --seeds 300 [--scenario X] [--seed N]``."""

from __future__ import annotations

import argparse
import sys
import time

from flare_async.testing.divergence import report_of
from tests.simulation.runner import command_of, one_seed, quiet, run_seeds
from tests.simulation.scenarios import BY_NAME


def main() -> int:
    """Run what the command line asks for; 1 says that something failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--scenario", action="append", choices=BY_NAME, help="default: all")
    parser.add_argument("--seeds", type=int, default=300, help="seeds of each scenario")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="replay one seed of one scenario")
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    names = chosen.scenario or list(BY_NAME)
    if chosen.seed is not None:
        return replay(names[0], chosen.seed)
    began, failed = time.perf_counter(), 0
    seeds = range(chosen.first, chosen.first + chosen.seeds)
    for tally in run_seeds(names, seeds, chosen.processes):
        each = 1000 * tally.seconds / max(1, tally.seeds)
        print(
            f"{tally.scenario:<12} {tally.seeds} seeds, {len(tally.failed)} failed,"
            f" {tally.rounds} rounds kept, {each:.0f} ms a seed"
            f" ({sum(tally.struck.values())} points struck)",
            *tally.failures,
            *([f"{tally.scenario}: failing seeds {tally.failed}"] if tally.failed else []),
            sep="\n",
            flush=True,
        )
        failed += len(tally.failed)
    print(f"{time.perf_counter() - began:.0f} s, {failed} seeds failed")
    return 1 if failed else 0


def replay(name: str, seed: int) -> int:
    """Run one seed with its trace and tell all of it."""
    quiet()
    verdict = one_seed(name, seed, trace=True)
    for when, what in verdict.evidence.story:
        print(f"{when:9.3f} s  {what}")
    print(f"trace {verdict.trace_hash}")
    if verdict.clean:
        print(f"{name} seed {seed} is clean: {verdict.setting.line()}")
        return 0
    print(report_of(verdict, command_of(name, seed)))
    return 1


if __name__ == "__main__":
    sys.exit(main())
