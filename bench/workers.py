"""What a second worker process gains: ``python -m bench.workers [--sites N] [--pairs N]``.

A convolutional network on the digits, 100 sites, one torch thread a worker: the same run inline,
with one worker process and with two. ``gain`` is the throughput of two over that of one, of the
median of alternating pairs; the models of all runs must have the same bits.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from typing import Final

from bench.child import run_child
from bench.table import Report, Row

__all__ = ["main", "rows_of"]

TARGET: Final = 1.7


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print; exit status 1 when bits differ."""
    parser = argparse.ArgumentParser(prog="python -m bench.workers", description=__doc__)
    parser.add_argument("--sites", type=int, default=100, help="(100)")
    parser.add_argument("--rounds", type=int, default=3, help="one more than are counted (3)")
    parser.add_argument("--pairs", type=int, default=3, help="(3)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)

    def run(workers: str, slots: int) -> dict[str, float]:
        sizes = {"sites": options.sites, "rounds": options.rounds}
        return run_child("bench.workers_run", {**sizes, "workers": workers, "slots": slots})

    inline = run("inline", 1)
    pairs = [(run("process", 1), run("process", 2)) for _ in range(options.pairs)]
    rows = rows_of(f"{options.sites} sites, digits", inline, pairs)
    Report("workers", rows).show(as_json=options.json)
    sys.exit(0 if rows[-1].value == 1 else 1)


def rows_of(
    case: str,
    inline: dict[str, float],
    pairs: Sequence[tuple[dict[str, float], dict[str, float]]],
) -> list[Row]:
    """Return the figures, the gain beside its target, and whether all bits are the same."""
    one = statistics.median(first["round_s"] for first, _ in pairs)
    two = statistics.median(second["round_s"] for _, second in pairs)
    gain = statistics.median(first["round_s"] / second["round_s"] for first, second in pairs)
    bits = {inline["bits"], *(run["bits"] for pair in pairs for run in pair)}
    return [
        Row(case, "a task, inline", inline["task_ms"], "ms"),
        Row(case, "a round, inline", inline["round_s"], "s"),
        Row(case, "a round, one process", one, "s"),
        Row(case, "a round, two processes", two, "s"),
        Row(case, "gain of the second", gain, "x").against("target, at least", TARGET),
        Row(case, "models with the same bits", float(len(bits) == 1), "1 is yes"),
    ]


if __name__ == "__main__":
    main()
