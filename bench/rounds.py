"""What a round costs when nobody trains: ``python -m bench.rounds [--json]``.

Without options, the cases of ``DEFAULTS``; with any of them, one case. Each case runs in a fresh
process through the public API, so its peak memory is its own. Frames, acknowledgements and tasks
are counted in processes of their own, because counting costs time, and compared with the same
case over another transport: the simulator runs the code that real sites run.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Final

from bench.child import run_child
from bench.empty import Case
from bench.size import format_size, parse_size
from bench.table import Report, Row

__all__ = ["main"]

DEFAULTS: Final = (
    Case(2, 100, 1000, "memory"),
    Case(2, 100, 1000, "tcp"),
    Case(1000, 3, 100_000, "memory"),
)
COUNTED_CLIENTS: Final = 20  # a count is exact, so few clients and rounds give it
COUNTED_ROUNDS: Final = 5
ROUND_TARGET_MS: Final = {"memory": 5.0, "tcp": 20.0}  # 2 clients, 1 KB
THOUSAND_TARGET_S: Final = 3.0  # 1,000 clients, 3 rounds, 100 KB
THOUSAND_TARGET_MB: Final = 300.0
MARGINAL_TARGET_US: Final = 300.0
FIGURES: Final = (
    ("wall_s", "wall: connect, rounds, files", "s"),
    ("rounds_s", "all rounds", "s"),
    ("round_ms", "a round, median", "ms"),
    ("client_round_us", "a client-round", "us"),
    ("import_s", "start-up: import", "s"),
    ("connect_s", "start-up: connect", "s"),
    ("peak_rss_mb", "peak RSS", "MB"),
    ("torch_imported", "torch was imported", ""),
)
COUNTS: Final = (
    ("frames", "frames a client-round"),
    ("acks", "ACKs a client-round"),
    ("tasks", "tasks a client-round"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the bench and print its report."""
    options = parser().parse_args(arguments)
    rows: list[Row] = []
    for case in chosen(options):
        rows += case_rows(case)
    if options.marginal:
        rows += marginal_rows(options)
    Report("rounds", rows).show(as_json=options.json)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    found = argparse.ArgumentParser(prog="python -m bench.rounds", description=__doc__)
    found.add_argument("--clients", type=int, help="one case with so many clients (2)")
    found.add_argument("--rounds", type=int, help="its rounds (100)")
    found.add_argument("--bytes", type=parse_size, help="its model, as in 100KB (1KB)")
    found.add_argument("--transport", choices=("memory", "tcp", "unix"), help="(memory)")
    found.add_argument("--workers", choices=("inline", "thread", "process"), default="inline")
    found.add_argument(
        "--marginal",
        type=int,
        nargs=2,
        metavar=("N1", "N2"),
        help="instead: what one more client costs between N1 and N2 clients",
    )
    found.add_argument("--json", action="store_true", help="print one JSON document")
    return found


def chosen(options: argparse.Namespace) -> list[Case]:
    """Return the cases that the command line asks for."""
    if options.marginal:
        return []
    given = (options.clients, options.rounds, options.bytes, options.transport)
    if not any(given):
        return [replace(case, workers=options.workers) for case in DEFAULTS]
    return [one_case(options, Case(2, 100, 1000))]


def one_case(options: argparse.Namespace, case: Case) -> Case:
    """Return ``case`` with what the command line changes."""
    return Case(
        options.clients or case.clients,
        options.rounds or case.rounds,
        options.bytes or case.nbytes,
        options.transport or case.transport,
        options.workers,
    )


def case_rows(case: Case) -> list[Row]:
    """Run a case and count it; return its rows."""
    name, found = describe(case), measured(case)
    rows = [Row(name, text, found[key], unit) for key, text, unit in FIGURES]
    return [*(with_target(row, case) for row in rows), *count_rows(case)]


def with_target(row: Row, case: Case) -> Row:
    """Return the row beside the project's target, where there is one for the case."""
    size = (case.clients, case.nbytes)
    if size == (2, 1000) and row.unit == "ms" and case.transport in ROUND_TARGET_MS:
        return row.against("target, below", ROUND_TARGET_MS[case.transport])
    if size == (1000, 100_000) and case.rounds == 3:
        if row.unit == "MB":
            return row.against("target, below", THOUSAND_TARGET_MB)
        if row.metric.startswith("wall"):
            return row.against("target, below", THOUSAND_TARGET_S)
    return row


def count_rows(case: Case) -> list[Row]:
    """Count a case's frames, ACKs and tasks, and the same case's over another transport."""
    small = replace(
        case,
        clients=min(case.clients, COUNTED_CLIENTS),
        rounds=COUNTED_ROUNDS,
        counting=True,
    )
    other = replace(small, transport="tcp" if case.transport == "memory" else "memory")
    here, there = measured(small), measured(other)
    return [
        Row(describe(case), text, here[key]).against(f"over {other.transport}", there[key])
        for key, text in COUNTS
    ]


def marginal_rows(options: argparse.Namespace) -> list[Row]:
    """Run the same case with few and with many clients; return what one more client costs."""
    few, many = sorted(options.marginal)
    base = one_case(options, Case(few, 3, 100_000))
    less, more = (measured(replace(base, clients=count)) for count in (few, many))
    name = f"{few} to {many} clients x {base.rounds} rounds x {format_size(base.nbytes)}"
    name += f", {base.transport}"
    rows = []
    for key, text in (
        ("rounds_s", "marginal client-round, rounds alone"),
        ("wall_s", "the same with connecting and files"),
    ):
        cost = (more[key] - less[key]) / ((many - few) * base.rounds) * 1e6
        rows.append(Row(name, text, cost, "us").against("target, below", MARGINAL_TARGET_US))
    memory = (more["peak_rss_mb"] - less["peak_rss_mb"]) / (many - few) * 1e3
    return [*rows, Row(name, "marginal memory of a client", memory, "KB")]


def measured(case: Case) -> dict[str, float]:
    """Return the figures of a case, run in a fresh process."""
    return run_child("bench.empty", asdict(case))


def describe(case: Case) -> str:
    """Return the name of a case."""
    size = format_size(case.nbytes)
    kind = "" if case.workers == "inline" else f", {case.workers}"
    return f"{case.clients} clients x {case.rounds} rounds x {size}, {case.transport}{kind}"


if __name__ == "__main__":
    main()
