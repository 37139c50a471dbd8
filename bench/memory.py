"""What a federation holds: ``python -m bench.memory [--clients N] [--bytes N] [--rounds N]``.

A server and N clients, each a process of its own, over tcp, without torch. A client's result is the
model plus one. ``growth`` is a process's peak above its resident size with everybody connected and
no model loaded; ``copies`` is the same in models. ``--relay MODE`` puts a relay between them.

``--slope`` runs many rounds and reads each process after it has given memory back: the slope is
that of the least squares line over all rounds after the first ``--warm``, for each 100 rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

from bench.child import Child
from bench.memory_server import LIMITS
from bench.size import format_size, parse_size
from bench.table import Report, Row
from flare_async.roles.relay import CACHE_BYTES, RelayMode

__all__ = ["Processes", "main", "processes", "slope"]

ANY_PORT: Final = "tcp://127.0.0.1:0"
SLACK: Final = 64e6
SLOPE_TARGET: Final = 1.0  # per cent of the resident size for each 100 rounds
Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Case:
    """How many clients exchange how much."""

    clients: int
    nbytes: int
    tensor_bytes: int
    relay: str = ""  # its mode, if there is one

    @property
    def windows(self) -> float:
        """The most credit that the server gives at once: windows of all links."""
        return min(float(self.clients * LIMITS.link_bytes), float(LIMITS.process_bytes))

    @property
    def name(self) -> str:
        """What the rows are called."""
        relay = f", {self.relay} relay" if self.relay else ""
        return f"{self.clients} clients, {format_size(self.nbytes)}{relay}"


@dataclass(frozen=True, slots=True)
class Processes:
    """A server with its clients connected; ``bases`` are their sizes, the server's first.

    The relay's, if there is one, is the last.
    """

    server: Child
    clients: Sequence[Child]
    relays: Sequence[Child]
    bases: Sequence[float]

    @property
    def below(self) -> Sequence[Child]:
        """All processes but the server's."""
        return [*self.clients, *self.relays]

    def round(self) -> Figures:
        """Run a round and return its figures."""
        return numbers(self.server.ask("round"))

    def growths(self) -> list[float]:
        """Return by how much each process has grown at its peak, the server first."""
        peaks = [numbers(child.ask("peak"))["peak"] for child in (self.server, *self.below)]
        return [peak - base for peak, base in zip(peaks, self.bases, strict=True)]


@contextmanager
def processes(case: Case, spool: Path) -> Iterator[Processes]:
    """Start a server and its clients; they end with the block."""
    quiet = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    os.environ.update(quiet)  # idle threads of NumPy's libraries are no cost of ours
    setting = {"address": ANY_PORT, "clients": case.clients, "nbytes": case.nbytes}
    setting |= {"tensor_bytes": case.tensor_bytes, "spool": str(spool)}
    with ExitStack() as stack:
        server = stack.enter_context(Child("bench.memory_server", setting))
        address = str(server.hear()["address"])
        relays = [stack.enter_context(relay_below(address, case.relay))] if case.relay else []
        address = str(relays[0].hear()["address"]) if relays else address
        clients = [
            stack.enter_context(
                Child("bench.memory_client", {"address": address, "name": f"site-{number}"})
            )
            for number in range(case.clients)
        ]
        server.hear()
        bases = [numbers(child.ask("base"))["rss"] for child in (server, *clients, *relays)]
        yield Processes(server, clients, relays, bases)


def relay_below(address: str, mode: str) -> Child:
    """Start a relay; its first answer is its address."""
    setting = {"parent": address, "mode": mode, "cache_bytes": CACHE_BYTES}
    return Child("bench.tree_relay", setting)


def numbers(answer: dict[str, str | float]) -> Figures:
    """Return an answer's figures."""
    return {name: float(value) for name, value in answer.items()}


def peak_rows(case: Case, rounds: int, spool: Path) -> list[Row]:
    """Run rounds and return the rows about the peaks."""
    with processes(case, spool) as started:
        loaded = numbers(started.server.ask("load"))
        done = [started.round() for _ in range(rounds)]
        last = numbers(started.server.ask("peak"))
        server, *growths = started.growths()
        clients, relays = growths[: case.clients], growths[case.clients :]
    moved = 2 * case.clients * case.nbytes
    most = 2 * case.nbytes + LIMITS.staging_bytes + case.windows + SLACK
    client_most = 2 * case.nbytes + SLACK
    seconds = [one["seconds"] for one in done]
    steady = statistics.median(seconds[1:] or seconds)
    faults = statistics.median(one["faults"] for one in done)
    parts = (("anonymous", "RssAnon"), ("file", "RssFile"), ("shared", "RssShmem"))
    return [
        Row(case.name, "server: base", started.bases[0] / 1e6, "MB"),
        Row(case.name, "server: growth", server / 1e6, "MB").against("target", most / 1e6),
        Row(case.name, "server: copies", server / case.nbytes, "models"),
        Row(case.name, "server: beside 2 copies", (server - 2 * case.nbytes) / 1e6, "MB").against(
            "target", (most - 2 * case.nbytes) / 1e6
        ),
        Row(case.name, "server: windows", case.windows / 1e6, "MB"),
        Row(case.name, "server: with the model loaded", loaded["rss"] / 1e6, "MB"),
        *(Row(case.name, f"server: {name} after", last[key] / 1e6, "MB") for name, key in parts),
        Row(case.name, "server: spool, a round", done[-1]["spilled"] / 1e6, "MB"),
        Row(case.name, "server: page faults, a MB pulled", faults / (moved / 2e6)),
        *(Row(case.name, "relay: growth", growth / 1e6, "MB") for growth in relays),
        Row(case.name, "client: base, largest", max(started.bases[1:]) / 1e6, "MB"),
        Row(case.name, "client: growth, largest", max(clients) / 1e6, "MB").against(
            "target", client_most / 1e6
        ),
        Row(case.name, "a round, first", seconds[0], "s"),
        Row(case.name, "a round, steady", steady, "s"),
        Row(case.name, "moved, both ways", moved / steady / 1e9, "GB/s"),
    ]


def slope(sizes: Sequence[float]) -> float:
    """Return the least squares slope of ``sizes``, in per cent of their mean for 100 steps."""
    if len(sizes) < 2:
        return 0.0
    line = statistics.linear_regression(range(len(sizes)), sizes)
    return 100 * 100 * line.slope / statistics.fmean(sizes)


def slope_rows(case: Case, rounds: int, warm: int, spool: Path) -> list[Row]:
    """Run rounds and return the slopes of all processes after each round's trim."""
    read: list[list[float]] = [[] for _ in range(case.clients + 1 + bool(case.relay))]
    with processes(case, spool) as started:
        for _ in range(rounds):
            sizes = [started.round()["rss"]]
            sizes += [numbers(child.ask("trim"))["rss"] for child in started.below]
            for column, size in zip(read, sizes, strict=True):
                column.append(size)
    name = f"{case.name}, rounds {warm} to {rounds}"
    ends = [(column[warm] / 1e6, column[-1] / 1e6) for column in read]
    slopes = [slope(column[warm:]) for column in read]
    worst = max(range(1, case.clients + 1), key=lambda at: slopes[at])
    relay = [("relay", len(read) - 1)] if case.relay else []
    rows = []
    for who, at in (("server", 0), *relay, ("client, steepest", worst)):
        rows.append(Row(name, f"{who}: size after round {warm}", ends[at][0], "MB"))
        rows.append(Row(name, f"{who}: size at the end", ends[at][1], "MB"))
        row = Row(name, f"{who}: slope, 100 rounds", slopes[at], "%")
        rows.append(row.against("target, below", SLOPE_TARGET))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the bench and print its report."""
    options = parser().parse_args(arguments)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.spool) as folder:
        for clients in options.clients or [8]:
            case = Case(clients, options.bytes, options.tensor_bytes, options.relay)
            if options.slope:
                rows += slope_rows(case, options.rounds or 200, options.warm, Path(folder))
            else:
                rows += peak_rows(case, options.rounds or 3, Path(folder))
    Report("memory", rows).show(as_json=options.json)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    found = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    found.add_argument("--clients", type=int, action="append", help="may come twice (8)")
    found.add_argument("--bytes", type=parse_size, default=1_000_000_000, help="the model (1GB)")
    found.add_argument("--tensor-bytes", type=parse_size, default=16_000_000, help="(16MB)")
    found.add_argument("--rounds", type=int, help="(3, with --slope 200)")
    found.add_argument("--slope", action="store_true", help="measure growth over rounds")
    found.add_argument("--warm", type=int, default=20, help="rounds before the slope (20)")
    found.add_argument("--relay", choices=get_args(RelayMode), default="", help="its mode (none)")
    found.add_argument("--spool", help="folder of a real disk for waiting updates (temporary)")
    found.add_argument("--json", action="store_true", help="print one JSON document")
    return found


if __name__ == "__main__":
    main()
