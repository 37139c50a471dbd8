"""Sites that run one training script: ``python -m bench.scripts [--threads N] [--processes N]``.

A FedAvg of NumPy arrays in one simulation: sites whose script runs in a thread each, then sites
whose script runs in a process each, over memory. ``peak`` is that of the simulation's process,
``trainers`` the largest sum of what its trainers held (shared pages count in each).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence

from bench.child import run_child
from bench.table import Report, Row

__all__ = ["main", "measure"]

MB = 1e6


def measure(sites: int, rounds: int, nbytes: int, *, external: bool) -> Iterator[Row]:
    """Yield the figures of one simulation, which has a process to itself."""
    kind = "processes" if external else "threads"
    case = f"{sites} {kind}, {nbytes / MB:g} MB, {rounds} rounds"
    with tempfile.TemporaryDirectory() as folder:
        setting: dict[str, str | float] = {
            "sites": sites,
            "rounds": rounds,
            "nbytes": nbytes,
            "external": float(external),
            "folder": folder,
        }
        found = run_child("bench.scripts_run", setting)
    yield Row(case, "wall", found["wall_s"], "s")
    yield Row(case, "base", found["base"] / MB, "MB")
    yield Row(case, "peak", found["peak"] / MB, "MB")
    yield Row(case, "updates", found["arrived"], "of all").against("asked", sites * rounds)
    if external:
        yield Row(case, "trainers", found["trainers"] / MB, "MB")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--threads", type=int, default=500)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model-mb", type=float, default=0.1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    nbytes = int(options.model_mb * MB)
    rows = [
        row
        for sites, external in ((options.threads, False), (options.processes, True))
        if sites
        for row in measure(sites, options.rounds, nbytes, external=external)
    ]
    Report("scripts", rows).show(as_json=options.json)


if __name__ == "__main__":
    main()
