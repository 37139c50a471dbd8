"""What it costs to begin: ``python -m bench.startup [--json]``.

Whole processes, started one after the other in turn, each beside ``python -c pass``.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final

from bench.table import Report, Row

__all__ = ["main"]

NOTHING: Final = "python -c pass"
COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    NOTHING: ("-c", "pass"),
    "import flare_async": ("-c", "import flare_async"),
    "import SimEnv, FedAvgRecipe": (
        "-c",
        "from flare_async import SimEnv; from flare_async.recipes import FedAvgRecipe",
    ),
    "python -m flare_async.sim --help": ("-m", "flare_async.sim", "--help"),
}
TARGETS_MS: Final = {"import flare_async": 250.0, "python -m flare_async.sim --help": 400.0}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the bench and print its report."""
    parser = argparse.ArgumentParser(prog="python -m bench.startup", description=__doc__)
    parser.add_argument("--times", type=int, default=7, help="runs of each command (7)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    Report("startup", rows_of(medians(max(1, options.times)))).show(as_json=options.json)


def medians(times: int) -> dict[str, float]:
    """Run every command once unmeasured, then ``times`` times in turn; return milliseconds."""
    found: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(times + 1):
        for name, words in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
            if turn:
                found[name].append((time.perf_counter() - began) * 1e3)
    return {name: statistics.median(values) for name, values in found.items()}


def rows_of(found: Mapping[str, float]) -> list[Row]:
    """Return a row a command, and one where a target stands."""
    rows = []
    for name, value in found.items():
        rows.append(Row(name, "wall, median", value, "ms").against(NOTHING, found[NOTHING]))
        if name in TARGETS_MS:
            row = Row(name, "the same", value, "ms")
            rows.append(row.against("target, below", TARGETS_MS[name]))
    return rows


if __name__ == "__main__":
    main()
