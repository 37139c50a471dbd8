"""How long a control message takes, whatever else happens: ``python -m bench.latency [--json]``.

Small messages go back and forth on one urgent channel, by a schedule that does not wait for their
answers: a stall is met by as many pings as were due in it. Over one link between two processes,
in turn: idle; beside bulk channels that never pause; and the same beside a reader that has taken
its first windows and then stopped, so that its credit is exhausted. The figures are medians over
the runs, the slowest is that of all of them; where the idle p99 is above one millisecond, the
machine was too busy to judge and the report says "void".

Then F01, what others get beside a peer that has stopped reading: on real sockets
(``bench.beside``), and exactly, in virtual time (``bench.virtual``). ``--only`` picks parts.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Final

from bench.beside import Beside, beside_rows
from bench.child import Child, Message
from bench.cpu import ANY_CORE, two_cores
from bench.size import parse_size
from bench.table import Report, Row
from bench.virtual import virtual_rows
from bench.wires import NAMES, NOT_AVAILABLE, available, listening, write_certificates
from flare_async.limits import MIB

__all__ = ["main"]

CASES: Final = {"idle": "idle", "bulk": "under bulk", "stalled": "under bulk, a stalled reader"}
BULK_TARGET_MS: Final = 5.0
STALLED_TARGET: Final = 1.5
VOID_MS: Final = 1.0
PARTS: Final = ("control", "beside", "virtual")


@dataclass(frozen=True, slots=True)
class Wire:
    """What is asked over what, and how much bulk goes beside."""

    transport: str
    pings: int
    rate: float
    nbytes: int
    bulk: tuple[int, int]  # channels down and up
    stalled: int = 1  # readers that stop, in the case of that name
    cores: tuple[int, int] = (ANY_CORE, ANY_CORE)

    @contextmanager
    def opened(self) -> Iterator[Child]:
        """Start both processes and yield the one that asks; they end with the block."""
        with tempfile.TemporaryDirectory(prefix="fb-") as folder:
            write_certificates(folder)
            both: Message = {"certificates": folder, "nbytes": self.nbytes}
            first: Message = {"address": listening(self.transport, folder, "responder")}
            with Child("bench.responder", {**both, **first, "core": self.cores[0]}) as responder:
                schedule: Message = {"pings": self.pings, "rate": self.rate, "core": self.cores[1]}
                bulk: Message = {"downloads": self.bulk[0], "uploads": self.bulk[1]}
                bulk = {**bulk, "stalled": self.stalled}
                with Child(
                    "bench.pinger", {**both, **schedule, **bulk, **responder.hear()}
                ) as asker:
                    asker.hear()
                    yield asker


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the bench and print its report."""
    options = parser().parse_args(arguments)
    parts = options.only or PARTS
    cores = (ANY_CORE, ANY_CORE) if options.unpinned else two_cores()
    rows: list[Row] = []
    for transport in options.transport or ("tcp",):
        if not available(transport):
            rows.append(Row(transport, NOT_AVAILABLE, 0))
            continue
        bulk = (options.bulk, options.uploads)
        wire = Wire(
            transport, options.pings, options.rate, options.bytes, bulk, options.stalled, cores
        )
        if "control" in parts:
            rows += control_rows(wire, options.runs)
        if "beside" in parts:
            rows += beside_rows(Beside(transport, options.each, cores=cores), options.pairs)
    if "virtual" in parts:
        rows += virtual_rows()
    Report("latency", rows).show(as_json=options.json)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    found = argparse.ArgumentParser(prog="python -m bench.latency", description=__doc__)
    found.add_argument("--transport", choices=NAMES, action="append", help="(tcp)")
    found.add_argument("--only", choices=PARTS, action="append", help="parts to run (all)")
    found.add_argument("--pings", type=int, default=30_000, help="of each case and run (30000)")
    found.add_argument("--rate", type=float, default=1000.0, help="pings a second (1000)")
    found.add_argument("--runs", type=int, default=5, help="of each case (5)")
    found.add_argument("--bulk", type=int, default=2, help="channels that download (2)")
    found.add_argument("--uploads", type=int, default=0, help="channels that upload (0)")
    found.add_argument("--stalled", type=int, default=1, help="readers that stop (1)")
    found.add_argument("--bytes", type=parse_size, default=64 * MIB, help="of one transfer (64MiB)")
    found.add_argument("--each", type=parse_size, default=16 * MIB, help="of 31 pulls (16MiB)")
    found.add_argument("--pairs", type=int, default=7, help="of runs beside a stopped peer (7)")
    found.add_argument("--unpinned", action="store_true", help="let the scheduler choose cores")
    found.add_argument("--json", action="store_true", help="print one JSON document")
    return found


def control_rows(wire: Wire, runs: int) -> list[Row]:
    """Run the three cases in turn and return their rows."""
    found: dict[str, list[Mapping[str, float]]] = {case: [] for case in CASES}
    with wire.opened() as asker:
        for _ in range(max(1, runs)):
            for case in CASES:
                answer = {name: float(value) for name, value in asker.ask(case).items()}
                found[case].append(answer)
    rows = []
    for case, text in CASES.items():
        rows += case_rows(f"{wire.transport}, {text}", found[case])
    return rows + judged_rows(wire, {case: middle(runs, "p99") for case, runs in found.items()})


def case_rows(name: str, runs: Sequence[Mapping[str, float]]) -> list[Row]:
    """Return the figures of one case."""
    slowest = max(run["max"] for run in runs)
    count = sum(run["pings"] for run in runs)
    return [
        Row(name, "round trip, p50", middle(runs, "p50") * 1e3, "ms"),
        Row(name, "round trip, p99", middle(runs, "p99") * 1e3, "ms"),
        Row(name, f"round trip, slowest of {count:.0f}", slowest * 1e3, "ms"),
        Row(name, "bulk beside it", middle(runs, "bulk") / 1e9, "GB/s"),
        Row(name, "held by the stalled reader", middle(runs, "held") / MIB, "MiB"),
    ]


def judged_rows(wire: Wire, p99: Mapping[str, float]) -> list[Row]:
    """Return the rows that compare: with the idle link, and with the targets."""
    name = f"{wire.transport}, judged"
    idle, bulk, stalled = (p99[case] * 1e3 for case in ("idle", "bulk", "stalled"))
    under = Row(name, "p99 under bulk", bulk, "ms")
    beside = Row(name, "p99 with a stalled reader", stalled, "ms")
    rows = [
        under.against("idle beside it", idle),
        under.against("target, at most", BULK_TARGET_MS),
        beside.against("idle beside it", idle),
        beside.against("under bulk beside it", bulk),
        beside.against("target, at most", bulk * STALLED_TARGET),
    ]
    if idle > VOID_MS:
        rows.append(Row(name, "void: idle p99 above 1 ms", idle, "ms"))
    return rows


def middle(runs: Sequence[Mapping[str, float]], figure: str) -> float:
    """Return the median of a figure over the runs."""
    return median(run[figure] for run in runs)


if __name__ == "__main__":
    main()
