"""The benches run and print documents of the agreed shape; no time is ever asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

Row = dict[str, str | float | None]


def rows_of(*words: str) -> list[Row]:
    """Run a bench and return its rows."""
    command = [sys.executable, "-m", *words, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert f"bench.{document['bench']}" == words[0]
    assert document["machine"]["cores"] >= 1
    rows: list[Row] = document["rows"]
    return rows


def value_of(rows: list[Row], metric: str) -> float:
    """Return the value of the only row of that metric."""
    (found,) = (row["value"] for row in rows if row["metric"] == metric)
    assert isinstance(found, int | float)
    return found


@pytest.mark.slow
def test_throughput_compares_every_way_with_the_raw_run_beside_it() -> None:
    """Two transports, two ways, and first pulls; ratios are of neighbours."""
    rows = rows_of("bench.throughput", "--bytes", "8MB", "--pairs", "1")

    assert {str(row["case"]).removesuffix(", a core each") for row in rows} == {
        "tcp, 8 MB",
        "unix, 8 MB",
    }
    compared = [row for row in rows if row["reference"] == "raw beside it"]
    assert {row["metric"] for row in compared} == {
        "channel",
        "verified",
        "channel: CPU of both",
        "verified: CPU of both",
    }
    assert all(isinstance(row["ratio"], float) and row["ratio"] > 0 for row in compared)
    targets = [row["reference_value"] for row in rows if row["reference"] == "target, at least"]
    assert targets == [0.85, 0.6, 0.75]


@pytest.mark.slow
def test_throughput_counts_frames_of_a_mebibyte() -> None:
    """Bulk comes in whole frames, and all but their heads lands in the lease."""
    rows = rows_of(
        "bench.throughput", "--bytes", "16MiB", "--pairs", "1", "--transport", "unix", "--counts"
    )

    assert 1.0 <= value_of(rows, "channel: frames a MiB in") < 1.25
    assert value_of(rows, "channel: bytes a MiB through scratch") < 16_384


@pytest.mark.slow
def test_rounds_measure_one_case_without_torch() -> None:
    """Wall, memory and counts of the case that was asked for."""
    rows = rows_of("bench.rounds", "--clients", "3", "--rounds", "2", "--bytes", "1KB")

    assert {row["case"] for row in rows} == {"3 clients x 2 rounds x 1 KB, memory"}
    assert value_of(rows, "torch was imported") == 0
    assert value_of(rows, "peak RSS") > 0
    assert value_of(rows, "frames a client-round") > 0


@pytest.mark.slow
def test_startup_stands_beside_an_interpreter_that_does_nothing() -> None:
    """The reference runs in turn with what it is compared with."""
    rows = rows_of("bench.startup", "--times", "1")

    cases = {row["case"] for row in rows}
    assert {"import flare_async", "python -m flare_async.sim --help"} <= cases
    assert {row["reference"] for row in rows} == {"python -c pass", "target, below"}
