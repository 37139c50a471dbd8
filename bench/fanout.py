"""What a connection costs: ``python -m bench.fanout [--connections N] [--json]``.

N real connections from one process to a server in another; each client then pulls the same bytes,
verified and into memory that is used again, ``--at-once`` of them at a time. The memory of a
connection is what either process grew by, divided by N: its resident size above that after
``--at-once`` clients have connected, pulled and left, each time after a collection of garbage and
without what the allocator could give back (a row of its own says how much that is). What the
kernel keeps for sockets is not in it.
``--objects`` adds, from a run of its own, the bytes that a connection has allocated, by source
file.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from bench.child import Child, Message
from bench.cpu import ANY_CORE, two_cores
from bench.size import format_size, parse_size
from bench.table import Report, Row
from bench.wires import NAMES, NOT_AVAILABLE, available, listening, write_certificates

__all__ = ["main"]

TARGET_KIB: Final = {"tcp": 12.0, "tls": 110.0}
SHOWN_FILES: Final = 16
KIB: Final = 1024
SIDES: Final = ("server", "clients")


@dataclass(frozen=True, slots=True)
class Case:
    """How many connections over what, and what each of them pulls."""

    transport: str
    connections: int
    nbytes: int
    at_once: int
    cores: tuple[int, int] = (ANY_CORE, ANY_CORE)
    tracing: bool = False

    def __str__(self) -> str:
        return f"{self.transport}, {self.connections} connections, {format_size(self.nbytes)} each"

    @contextmanager
    def opened(self) -> Iterator[Sides]:
        """Start the server, then the clients; they end with the block."""
        with tempfile.TemporaryDirectory(prefix="fb-") as folder:
            write_certificates(folder)
            address = listening(self.transport, folder, "origin")
            both: Message = {"certificates": folder, "tracing": self.tracing}
            served: Message = {"address": address, "nbytes": self.nbytes, "core": self.cores[0]}
            with Child("bench.origin", {**both, **served}) as origin:
                asked: Message = {"at_once": self.at_once, "core": self.cores[1]}
                count: Message = {"clients": self.connections}
                with Child("bench.crowd", {**both, **asked, **count, **origin.hear()}) as crowd:
                    crowd.hear()
                    yield Sides(origin, crowd)


@dataclass(frozen=True, slots=True)
class Sides:
    """The two processes."""

    server: Child
    clients: Child

    def each(self, command: str) -> Mapping[str, Mapping[str, float]]:
        """Ask both the same; return the figures by side."""
        return {"server": figures(self.server, command), "clients": figures(self.clients, command)}


def figures(child: Child, command: str) -> Mapping[str, float]:
    """Ask for figures."""
    return {name: float(value) for name, value in child.ask(command).items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the bench and print its report."""
    options = parser().parse_args(arguments)
    rows: list[Row] = []
    for transport in options.transport or ("tcp",):
        if not available(transport):
            rows.append(Row(transport, NOT_AVAILABLE, 0))
            continue
        cores = (ANY_CORE, ANY_CORE) if options.unpinned else two_cores()
        case = Case(transport, options.connections, options.bytes, options.at_once, cores)
        rows += case_rows(case)
        if options.objects:
            rows += object_rows(replace(case, tracing=True))
    Report("fanout", rows).show(as_json=options.json)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    found = argparse.ArgumentParser(prog="python -m bench.fanout", description=__doc__)
    found.add_argument("--transport", choices=NAMES, action="append", help="(tcp)")
    found.add_argument("--connections", type=int, default=5000, help="(5000)")
    found.add_argument("--bytes", type=parse_size, default=100_000, help="each pulls (100KB)")
    found.add_argument("--at-once", type=int, default=64, help="clients that are busy (64)")
    found.add_argument("--objects", action="store_true", help="what is allocated where, as well")
    found.add_argument("--unpinned", action="store_true", help="let the scheduler choose cores")
    found.add_argument("--json", action="store_true", help="print one JSON document")
    return found


def case_rows(case: Case) -> list[Row]:
    """Run a case and return its rows."""
    rows: list[Row] = []
    with case.opened() as sides:
        sides.clients.ask("warm")
        steps = [sides.each("memory")]
        for command in ("connect", "pull"):
            before = figures(sides.server, "cpu")["cpu"]
            found = figures(sides.clients, command)
            cpu = found["cpu"] + figures(sides.server, "cpu")["cpu"] - before
            rows += time_rows(case, command, found, cpu)
            steps.append(sides.each("memory"))
    return rows + memory_rows(case, steps)


def time_rows(case: Case, command: str, found: Mapping[str, float], cpu: float) -> list[Row]:
    """Return what one step took."""
    name, count = str(case), case.connections
    return [
        Row(name, f"{command}: wall", found["seconds"] / count * 1e6, "us a connection"),
        Row(name, f"{command}: CPU of both", cpu / count * 1e6, "us a connection"),
        Row(name, f"{command}: median, {case.at_once} at once", found["median_s"] * 1e3, "ms"),
        Row(name, f"{command}: slowest", found["slowest_s"] * 1e3, "ms"),
    ]


def memory_rows(case: Case, steps: Sequence[Mapping[str, Mapping[str, float]]]) -> list[Row]:
    """Return what either process grew by."""
    name, target = str(case), TARGET_KIB.get(case.transport)
    before, connected, pulled = steps
    rows = []
    for side in SIDES:
        for text, step in (("connected", connected), ("after its pull", pulled)):
            grown = (step[side]["rss"] - before[side]["rss"]) / case.connections / KIB
            row = Row(name, f"RSS, {side}: {text}", grown, "KiB a connection")
            rows.append(row if target is None else row.against("target, at most", target))
        kept = pulled[side]["free"] / case.connections / KIB
        rows.append(Row(name, f"RSS, {side}: only free memory", kept, "KiB a connection"))
    return rows


def object_rows(case: Case) -> list[Row]:
    """Return what is allocated by which file, the most first, from processes that are traced."""
    with case.opened() as sides:
        sides.clients.ask("warm")
        before = sides.each("traced")
        for command in ("connect", "pull"):
            sides.clients.ask(command)
        after = sides.each("traced")
    rows = []
    for side in SIDES:
        grown = {file: size - before[side].get(file, 0.0) for file, size in after[side].items()}
        most = sorted(grown, key=grown.__getitem__, reverse=True)[:SHOWN_FILES]
        shown = {"all files": sum(grown.values()), **{file: grown[file] for file in most}}
        name, unit = f"{case.transport}, traced, {side}", "B a connection"
        rows += [Row(name, text, size / case.connections, unit) for text, size in shown.items()]
    return rows


if __name__ == "__main__":
    main()
