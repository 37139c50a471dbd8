"""Switches safeguards off, one after the other, and lets the simulation look for the difference.

``python -m tests.simulation.ablation [--name X] --seeds 2000``: for each safeguard the first seed
of its scenario that fails without it. The same seed, and all before it, have to be clean with it.
``--write`` keeps the found seeds in ``found_seeds.json``, which the test suite runs again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.simulation.ablations import ABLATIONS, Ablation
from tests.simulation.runner import one_seed, workers

__all__ = ["FOUND", "Found", "found_seeds", "hunt"]

FOUND = Path(__file__).with_name("found_seeds.json")
SEEDS = 2000


@dataclass(frozen=True)
class Found:
    """The first seed that fails without a safeguard, what broke, and which seeds fail with it."""

    name: str
    scenario: str
    seed: int | None
    violation: str
    unclean: tuple[int, ...]
    seconds: float

    @property
    def line(self) -> str:
        """What is told of it."""
        at = "not found" if self.seed is None else f"{self.scenario} seed {self.seed}"
        bad = f"; with it seeds {self.unclean} fail" if self.unclean else "; clean with it"
        return f"{self.name:<20} {at:<20} {self.seconds:6.1f} s  {self.violation}{bad}"


def hunt(ablation: Ablation, seeds: int) -> Found:
    """Look for the first seed that fails without a safeguard, then run those seeds with it."""
    began, at, violation = time.perf_counter(), None, ""
    for seed in range(seeds):
        with ablation.off():
            verdict = one_seed(ablation.scenario, seed)
        if not verdict.clean:
            at, violation = seed, str(verdict.violations[0])[:90]
            break
    looked = range(seeds if at is None else at + 1)
    unclean = tuple(seed for seed in looked if not one_seed(ablation.scenario, seed).clean)
    seconds = time.perf_counter() - began
    return Found(ablation.name, ablation.scenario, at, violation, unclean, seconds)


def hunt_named(chosen: tuple[str, int]) -> Found:
    """Hunt for one safeguard by name, in a process of a pool."""
    name, seeds = chosen
    return hunt(next(one for one in ABLATIONS if one.name == name), seeds)


def found_seeds() -> dict[str, int]:
    """Return the seeds that were found before, by the safeguard's name."""
    return {row["name"]: row["seed"] for row in json.loads(FOUND.read_text("utf-8"))}


def main() -> int:
    """Run what the command line asks for; 1 says that one was not found, or a seed is unclean."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.ablation")
    parser.add_argument("--name", action="append", choices=[one.name for one in ABLATIONS])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="keep the seeds that are found")
    chosen = parser.parse_args()
    names = chosen.name or [one.name for one in ABLATIONS]
    found: list[Found] = []
    with workers(chosen.processes) as pool:
        for one in pool.map(hunt_named, [(name, chosen.seeds) for name in names]):
            print(one.line, flush=True)
            found.append(one)
    if chosen.write:
        rows = [{"name": o.name, "scenario": o.scenario, "seed": o.seed} for o in found]
        FOUND.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")
    lost = [one.name for one in found if one.seed is None or one.unclean]
    print(f"{len(found) - len(lost)} of {len(found)} safeguards are missed when they are off")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
