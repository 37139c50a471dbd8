"""F44: many rounds of many sites with a little of everything going wrong; memory must not grow.

``python -m tests.simulation.soak [--sites 200] [--rounds 1000]`` plays one federation in one
process, with faults, crashes, drop-outs and unlikely things at low rates. Every fifty rounds the
invariants are judged, and resident memory and descriptors of the process are taken. It fails if an
invariant breaks, if memory grows by more than a hundredth in a hundred rounds (by a straight line
through what was taken, the first fifth left out), or if descriptors are left.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flare_async.testing.faults import Delay, Fault, Freeze, HalfOpen
from flare_async.testing.federation import SERVER, SMALL, Crash, CutLinks, Leave, Setting
from flare_async.testing.federation.books import Books
from flare_async.testing.scenario import Verdict, play
from flare_async.testing.strikes import BitFlip
from tests.simulation.runner import quiet

__all__ = ["Mark", "slope", "soak", "soaking"]

# A session remembers how its channels ended, up to ``channels`` of them, until an idle link has
# asked: with short beats that is soon, and memory is level after a few rounds.
LIMITS = dataclasses.replace(SMALL, session_grace=60, channels=256)
ROUND_SECONDS = 3.0  # about; what goes wrong is spread over them
EVENTS = 0.1  # of the kinds below, a second
MARKS = 50  # rounds between two looks at the process
MOST_GROWTH = 0.01  # of memory in a hundred rounds


@dataclass(frozen=True)
class Mark:
    """What the process holds after so many rounds: memory in KiB, and descriptors."""

    rounds: int
    rss: int
    descriptors: int


def soaking(sites: int, rounds: int, seed: int = 0) -> Setting:
    """Return a federation in which something happens to somebody every few rounds."""
    dice = random.Random(f"soak {seed}")
    names = [f"site-{index}" for index in range(sites)]
    length = ROUND_SECONDS * rounds
    unlucky = dice.choices(names, k=max(6, int(length * EVENTS)))
    faults: list[Fault] = [Delay(0.0, 0.05)]
    incidents = []
    for at, site in enumerate(unlucky):
        when = dice.uniform(1, length)
        match at % 6:
            case 0:
                incidents.append(CutLinks(at=when, host=site))
            case 1:
                faults.append(BitFlip(dice.randrange(100_000), payload=True, site=site))
            case 2:
                faults.append(HalfOpen(when, site=site))
            case 3:
                faults.append(Freeze(when, heals=when + dice.uniform(3, 40), site=site))
            case 4:
                incidents.append(Crash(at=when, host=site, back=dice.uniform(0.1, 20)))
            case _:
                incidents.append(Leave(at=when, host=site, back=dice.uniform(0.1, 20)))
    for _ in range(max(1, rounds // 50)):
        incidents += [
            CutLinks(at=dice.uniform(1, length), host="relay-0"),
            Crash(at=dice.uniform(1, length), host="relay-1", back=3.0),
            Crash(at=dice.uniform(1, length), host=SERVER, back=2.0),
        ]
    return Setting(
        scenario="soak",
        seed=seed,
        sites=sites,
        relays=2,
        relay_mode="reduce",
        rounds=rounds,
        values=500,
        quorum=sites // 2,
        deadline=20.0,
        seconds=(0.1, 2.0),
        unwell=0.005,
        faults=tuple(faults),
        incidents=tuple(incidents),
        limits=LIMITS,
        buggify=0.1,
    )


def resident() -> int:
    """Return the resident memory of this process in KiB."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def marked(rounds: int) -> Mark:
    """Return what this process holds now."""
    gc.collect()
    return Mark(rounds, resident(), len(list(Path("/proc/self/fd").iterdir())))


def slope(marks: Sequence[Mark]) -> float:
    """Return by which part of itself memory grows in a hundred rounds, by least squares."""
    points = [(mark.rounds / 100, mark.rss) for mark in marks[len(marks) // 5 :]]
    if len(points) < 2:
        return 0.0
    x_mean = sum(x for x, _ in points) / len(points)
    y_mean = sum(y for _, y in points) / len(points)
    spread = sum((x - x_mean) ** 2 for x, _ in points)
    return sum((x - x_mean) * (y - y_mean) for x, y in points) / spread / y_mean


def soak(setting: Setting, every: int) -> tuple[Verdict, list[Mark]]:
    """Play a federation; return its verdict and what the process held on the way."""
    marks: list[Mark] = []

    def look(number: int) -> None:
        marks.append(mark := marked(number))
        print(f"{number} rounds: {mark.rss / 1024:.1f} MB", file=sys.stderr, flush=True)

    books = Books(every, look)
    return play(setting, horizon=3600.0 + 60 * setting.rounds, books=books), marks


def main() -> int:
    """Play as long as the command line says; 1 says that something broke, grew or was left."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.soak")
    parser.add_argument("--sites", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    quiet()
    began = time.perf_counter()
    setting = soaking(chosen.sites, chosen.rounds, chosen.seed)
    verdict, marks = soak(setting, min(MARKS, max(1, chosen.rounds // 10)))
    growth, descriptors = slope(marks), sorted({mark.descriptors for mark in marks})
    last = verdict.evidence.kept[-1].number + 1 if verdict.evidence.kept else 0
    told = {
        "rounds": last,
        "sites": chosen.sites,
        "rss_mb": round(marks[-1].rss / 1024, 1) if marks else None,
        "growth_per_100_rounds": round(growth, 5),
        "descriptors": descriptors,
        "links": sum(verdict.evidence.connects.values()),
        "incidents": len(setting.incidents) + len(setting.faults),
        "points_struck": sum(verdict.evidence.struck.values()),
        "violations": [str(one)[:200] for one in verdict.violations[:10]],
        "virtual_s": round(verdict.evidence.finished or 0),
        "wall_s": round(time.perf_counter() - began),
    }
    print(json.dumps(told) if chosen.json else "\n".join(f"{k}: {v}" for k, v in told.items()))
    bad = growth > MOST_GROWTH or len(descriptors) > 1 or last < chosen.rounds
    return 1 if bad or verdict.violations else 0


if __name__ == "__main__":
    sys.exit(main())
