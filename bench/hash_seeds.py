"""The same simulation under several hash seeds: a process for each, and what its trace hash is.

Sets of strings are ordered by ``PYTHONHASHSEED``; a simulation whose steps depended on such an
order would tell another story in each process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from bench.table import Row

__all__ = ["TRACE", "compared"]

TRACE = "trace "  # how the metric with a run's hash begins


def compared(module: str, arguments: Sequence[str], seeds: Sequence[int]) -> list[Row]:
    """Run ``python -m module`` once with each hash seed; return wall times and trace hashes.

    The value of a trace is 1 where it is that of the first seed, else 0. Waits for ever: a bench
    lasts as long as it lasts.

    Raises:
        subprocess.CalledProcessError: a run failed; its messages went to standard error.
    """
    rows: list[Row] = []
    first = ""
    for seed in seeds:
        for row in played(module, arguments, seed):
            metric = f"PYTHONHASHSEED {seed}: {row['metric']}"
            if str(row["metric"]).startswith(TRACE):
                first = first or str(row["metric"])
                same = float(row["metric"] == first)
                rows.append(Row(str(row["case"]), metric, same, "1 is the same"))
            elif row["metric"] == "wall":
                rows.append(Row(str(row["case"]), metric, float(row["value"]), "s"))
    return rows


def played(module: str, arguments: Sequence[str], seed: int) -> list[dict[str, str | float]]:
    """Return the rows of one run."""
    command = [sys.executable, "-m", module, "--json", *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    rows: list[dict[str, str | float]] = json.loads(done.stdout)["rows"]
    return rows
