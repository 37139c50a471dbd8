"""F42: sites drop out of every round, and every round ends, because more are asked than needed.

``python -m tests.simulation.dropouts`` runs 1,000 sites for 100 rounds with 10, 33 and 50 per cent
of drop-out: half of those fail, the others never answer. 1.3 times the size of a round are asked;
it ends with its size, or at its deadline with a quorum.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections import Counter

from flare_async.testing.federation import SMALL, Setting
from flare_async.testing.scenario import Verdict, play
from tests.simulation.runner import quiet, workers

__all__ = ["DROP_OUTS", "dropping"]

DROP_OUTS = (0.1, 0.33, 0.5)
SIZE = 0.1  # of the sites, a round
QUORUM = 0.4  # of the size

LIMITS = dataclasses.replace(
    SMALL, heartbeat_interval=20, session_grace=80
)  # nobody's link is lost


def dropping(sites: int, rounds: int, share: float, seed: int = 0) -> Setting:
    """Return a federation in which a share of those who are asked drops out of every round."""
    size = max(2, int(sites * SIZE))
    return Setting(
        scenario=f"drop-out of {share:.0%}",
        seed=seed,
        sites=sites,
        rounds=rounds,
        values=500,
        size=size,
        over_select=1.3,
        quorum=max(1, int(size * QUORUM)),
        deadline=5.0,
        unwell=share,
        seconds=(0.1, 2.0),
        limits=LIMITS,
    )


def run(setting: Setting) -> tuple[Verdict, float]:
    """Run a setting; return its verdict and the seconds that it took."""
    began = time.perf_counter()
    verdict = play(setting, horizon=60.0 * setting.rounds)
    return verdict, time.perf_counter() - began


def told(verdict: Verdict, seconds: float) -> str:
    """Return a line about a run."""
    evidence, setting = verdict.evidence, verdict.setting
    ends = Counter(str(one.record.status) for one in evidence.told)
    sizes = sorted(len(kept.sites) for kept in evidence.kept)
    return (
        f"{setting.scenario}: {len(evidence.kept)} of {setting.rounds} rounds kept in"
        f" {len(evidence.given)} tries, {sizes[0]} to {sizes[-1]} updates each,"
        f" {dict(sorted(ends.items()))}, {evidence.finished:.0f} virtual s in {seconds:.0f} s,"
        f" {len(verdict.violations)} violations"
    )


def main() -> int:
    """Run all three; 1 says that a round did not end, or that an invariant broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.dropouts")
    parser.add_argument("--sites", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=100)
    chosen = parser.parse_args()
    settings = [dropping(chosen.sites, chosen.rounds, share) for share in DROP_OUTS]
    bad = 0
    with workers(2) as pool:
        for verdict, seconds in pool.map(run, settings):
            print(told(verdict, seconds), flush=True)
            print(*[f"  {one}" for one in verdict.violations[:5]], sep="\n", end="")
            bad += not verdict.clean or len(verdict.evidence.kept) < chosen.rounds
    return 1 if bad else 0


if __name__ == "__main__":
    quiet()
    sys.exit(main())
