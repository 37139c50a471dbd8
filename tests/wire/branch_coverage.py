"""Branch coverage of the session machine: ``python -m tests.wire.branch_coverage [--tests]``.

Judges fuzzed frames in this process and, with ``--tests``, runs the tests of ``tests/wire`` there.
Prints for each module of the machine how many of its branches were taken. Less than ``LEAST`` of
them in any module ends it with an error that names the branches.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import coverage
import pytest

__all__ = ["main"]

ROOT: Final = Path(__file__).parents[2]
NAMES: Final = ("session", "inbound", "handshake", "resume", "table", "channel", "outbox")
MODULES: Final = tuple(f"flare_async/wire/{name}.py" for name in NAMES)
LEAST: Final = 0.95

Figures = Mapping[str, Mapping[str, object]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.wire.branch_coverage", description=__doc__
    )
    parser.add_argument("--frames", type=int, default=20_000, help="fuzzed frames (20000)")
    parser.add_argument("--seed", type=int, default=1, help="what they follow from (1)")
    parser.add_argument("--tests", action="store_true", help="run tests/wire as well")
    options = parser.parse_args(arguments)
    found = measured(options.seed, options.frames, tests=options.tests)
    poor = [name for name in MODULES if share(found[name]) < LEAST]
    for name in MODULES:
        sys.stdout.write(f"{name}: {share(found[name]):.1%} of its branches\n")
    if poor:
        lines = (f"{name} misses {found[name]['missing_branches']}" for name in poor)
        raise SystemExit(f"below {LEAST:.0%}: " + "; ".join(lines))


def measured(seed: int, frames: int, *, tests: bool) -> Figures:
    """Return what coverage says of each module.

    The modules are imported while it measures, so nothing of the product is imported above.
    """
    with tempfile.TemporaryDirectory(prefix="fc-") as folder:
        meter = coverage.Coverage(
            data_file=None,
            config_file=False,
            branch=True,
            include=[str(ROOT / "flare_async/wire/*")],
        )
        meter.config.exclude_list += ["if TYPE_CHECKING:"]
        with meter.collect():
            judged = judge(seed, frames)
            if tests and pytest.main(["-q", "-p", "no:cacheprovider", str(ROOT / "tests/wire")]):
                raise SystemExit("tests/wire fails")
        sys.stdout.write(f"{judged} fuzzed frames{' and tests/wire' if tests else ''}\n")
        report = Path(folder) / "coverage.json"
        meter.json_report(outfile=str(report))
        files = json.loads(report.read_text("utf-8"))["files"]
    by_name = {Path(name).name: figures for name, figures in files.items()}
    return {name: by_name[Path(name).name] for name in MODULES}


def judge(seed: int, frames: int) -> int:
    """Judge at least so many frames; return how many, most of which must have been accepted."""
    from tests.hostile.fuzz_sessions import SessionFuzz

    fuzzer, number = SessionFuzz(seed), 0
    while fuzzer.judged < frames:
        fuzzer.case(number)
        number += 1
    if not fuzzer.tally["frames: accepted"] or not fuzzer.tally["frames: refused"]:
        raise SystemExit(f"the fuzzer's frames are all of one kind: {fuzzer.tally}")
    return fuzzer.judged


def share(figures: Mapping[str, object]) -> float:
    """Return the share of branches that were taken; a module without any has them all."""
    summary = figures["summary"]
    assert isinstance(summary, dict)
    total = summary["num_branches"]
    return summary["covered_branches"] / total if total else 1.0


if __name__ == "__main__":
    main()
