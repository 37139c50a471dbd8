"""Fuzz of everything that reads what peers send: ``python -m bench.fuzz --frames 1000000``.

Mutated sessions go to decoder and session machine, mutated messages to the schemas, mutated headers
to the manifest and to the safetensors library beside it. A case that ends in anything but a typed
error ends the run with the command that runs it alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench.table import Report, Row
from tests.hostile.fuzz import FUZZERS, Finding, Outcome, Watch, fuzz, replay

__all__ = ["main"]

GROWTH_MB = 64.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the fuzzers and print what was counted."""
    parser = argparse.ArgumentParser(prog="python -m bench.fuzz", description=__doc__)
    parser.add_argument("--frames", type=int, default=100_000, help="frames to judge (100000)")
    parser.add_argument("--seed", type=int, default=1, help="what all cases follow from (1)")
    parser.add_argument("--replay", metavar="KIND:N", help="run one case alone, with its traceback")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    if options.replay:
        kind, _, number = options.replay.partition(":")
        if kind not in FUZZERS or not number.isdigit():
            parser.error(f"--replay {options.replay}: KIND is one of {', '.join(FUZZERS)}")
        for name, count in sorted(replay(options.seed, kind, int(number)).items()):
            sys.stdout.write(f"{name}: {count}\n")
        return
    try:
        outcome = fuzz(options.seed, options.frames, Watch())
    except Finding as finding:
        raise SystemExit(str(finding)) from finding
    Report("fuzz", rows_of(outcome)).show(as_json=options.json)
    if outcome.forbidden:
        raise SystemExit("audit events: " + "; ".join(outcome.forbidden))


def rows_of(outcome: Outcome) -> list[Row]:
    """Return the counts, the memory and the speed."""
    case, counts = f"seed {outcome.seed}", outcome.counts
    rows = [Row(case, name, counts[name]) for name in sorted(counts)]
    cases = {name: counts[f"cases: {name}"] for name in ("mutated sessions", "forged")}
    share = cases["mutated sessions"] / max(1, sum(cases.values()))
    judged = counts["frames: accepted"] + counts["frames: refused"]
    grown = Row(case, "resident memory grew by", outcome.grown_bytes / 2**20, "MiB")
    return [
        *rows,
        Row(case, "frames judged", judged),
        Row(case, "share of cases from valid sessions", share).against("target, at least", 0.5),
        Row(case, "audit events", len(outcome.forbidden)),
        grown.against("target, below", GROWTH_MB),
        Row(case, "frames a second", judged / max(outcome.seconds, 1e-9)),
        Row(case, f"digest {outcome.digest}", 0),
    ]


if __name__ == "__main__":
    main()
