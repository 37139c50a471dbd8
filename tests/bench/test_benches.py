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


def compared(rows: list[Row], reference: str) -> set[str]:
    """Return the metrics that are compared with something; each comparison is a ratio."""
    found = [row for row in rows if row["reference"] == reference]
    assert all(isinstance(row["ratio"], float) for row in found)
    return {str(row["metric"]) for row in found}


WAYS = {"channel", "upload", "verified"}


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("transport", "reference", "targets"),
    [
        ("tcp", "raw beside it", [0.85, 0.6]),
        pytest.param("tls", "raw beside it", [0.85], marks=pytest.mark.sweep),
        pytest.param("ws", "tcp beside it", [0.6, 0.4], marks=pytest.mark.sweep),
    ],
)
def test_throughput_compares_every_way_with_the_run_beside_it(
    transport: str, reference: str, targets: list[float]
) -> None:
    """Downloads, uploads and verified pulls, each with its rate and processor time in ratio."""
    words = ("--bytes", "1MB", "--pairs", "1", "--tensors", "2", "--transport", transport)
    rows = rows_of("bench.throughput", *words)

    (case,) = {str(row["case"]).removesuffix(", a core each") for row in rows}
    assert case == f"{transport}, 1 MB"
    assert compared(rows, reference) == WAYS | {f"{way}: CPU of both" for way in WAYS}
    judged = [row["reference_value"] for row in rows if row["reference"] == "target, at least"]
    assert judged == targets


@pytest.mark.sweep
def test_throughput_counts_frames_of_a_mebibyte() -> None:
    """Bulk comes in whole frames, and all but their heads lands in the lease."""
    rows = rows_of(
        "bench.throughput", "--bytes", "16MiB", "--pairs", "1", "--transport", "unix", "--counts"
    )

    assert 1.0 <= value_of(rows, "channel: frames a MiB in") < 1.25
    assert value_of(rows, "channel: bytes a MiB through scratch") < 16_384


@pytest.mark.sweep
def test_rounds_measure_one_case_without_torch() -> None:
    """Wall, memory and counts of the case that was asked for."""
    rows = rows_of("bench.rounds", "--clients", "3", "--rounds", "2", "--bytes", "1KB")

    assert {row["case"] for row in rows} == {"3 clients x 2 rounds x 1 KB, memory"}
    assert value_of(rows, "torch was imported") == 0
    assert value_of(rows, "peak RSS") > 0
    assert value_of(rows, "frames a client-round") > 0


@pytest.mark.sweep
def test_startup_stands_beside_an_interpreter_that_does_nothing() -> None:
    """The reference runs in turn with what it is compared with."""
    rows = rows_of("bench.startup", "--times", "1")

    cases = {row["case"] for row in rows}
    assert {"import flare_async", "python -m flare_async.sim --help"} <= cases
    assert {row["reference"] for row in rows} == {"python -c pass", "target, below"}


@pytest.mark.sweep
def test_latency_measures_three_cases_and_judges_them_by_each_other() -> None:
    """Every ping of every case came back, and a reader really stood still."""
    words = ("--pings", "40", "--runs", "1", "--bytes", "1MiB", "--only", "control")
    rows = rows_of("bench.latency", *words)

    cases = ["tcp, idle", "tcp, under bulk", "tcp, under bulk, a stalled reader"]
    for case in cases:
        names = {row["metric"] for row in rows if row["case"] == case}
        assert {"round trip, p50", "round trip, p99", "round trip, slowest of 40"} <= names
    held = [row["value"] for row in rows if row["metric"] == "held by the stalled reader"]
    assert held[:2] == [0, 0]
    assert float(held[2] or 0) > 0
    judged = [row for row in rows if row["case"] == "tcp, judged"]
    assert {"idle beside it", "under bulk beside it"} <= {row["reference"] for row in judged}


@pytest.mark.sweep
def test_latency_compares_the_others_with_and_without_a_stopped_peer() -> None:
    """A process that has stopped itself in the middle of a pull is among the readers."""
    words = ("--only", "beside", "--pairs", "1", "--each", "8MiB", "--transport", "unix")
    rows = rows_of("bench.latency", *words)

    assert {row["case"] for row in rows} == {"unix, 31 clients, 8 MiB each"}
    assert [row["reference"] for row in rows] == ["without it", "target, at least"]


@pytest.mark.sweep
@pytest.mark.parametrize(
    "transport", ["unix", *(pytest.param(name, marks=pytest.mark.sweep) for name in ("tls", "wss"))]
)
def test_fanout_measures_both_sides_of_a_connection(transport: str) -> None:
    """Connecting and pulling have their costs, memory stands beside the target where one is."""
    words = ("--connections", "4", "--bytes", "10KB", "--transport", transport)
    rows = rows_of("bench.fanout", *words)

    assert {row["case"] for row in rows} == {f"{transport}, 4 connections, 10 KB each"}
    for step in ("connect", "pull"):
        assert value_of(rows, f"{step}: wall") > 0
    for side in ("server", "clients"):
        names = {row["metric"] for row in rows if str(row["metric"]).startswith(f"RSS, {side}")}
        assert len(names) == 3
    targets = {row["reference_value"] for row in rows if row["reference"]}
    assert targets == ({110.0} if transport == "tls" else set())


@pytest.mark.sweep
def test_fanout_tells_which_files_allocate() -> None:
    """The product's own files are among those that a connection allocates in."""
    rows = rows_of("bench.fanout", "--connections", "4", "--bytes", "10KB", "--objects")

    assert {row["reference_value"] for row in rows if row["reference"]} == {12.0}
    for side in ("server", "clients"):
        files = {row["metric"] for row in rows if row["case"] == f"tcp, traced, {side}"}
        assert {"all files", "flare_async/net/session.py"} <= files
