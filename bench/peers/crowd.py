"""What a client costs, here and elsewhere: ``python -m bench.peers.crowd [--json] [--picture F]``.

Every client adds one to a float32 model of 100 KB, three rounds long, with more and more clients:
NVFlare's simulator up to 50 (with 100 it hangs), Flower's up to 1,000, pfl and we up to 10,000. All
run in one session, one after another, in environments that the bench makes. ``wall`` is the whole
program, imports included, and ``memory`` the resident memory of all its processes together at its
largest. The marginal cost of a client-round is (wall(n2) - wall(n1)) / ((n2 - n1) * rounds) for the
two largest sizes that a program was run with.

pfl moves no message and trains PyTorch models: its client takes a step of SGD that adds one, and
"pfl, bare" is the least that it can do for a client. Ours has a row for either. A program that
fails is printed as failed, without ratios.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from bench.machine import machine_facts
from bench.peers.__main__ import tell
from bench.peers.chart import draw
from bench.peers.environments import PACKAGES, version_of
from bench.peers.exchange import Exchange, Figures, run_peer
from bench.size import parse_size
from bench.table import Report, Row

__all__ = ["CONTESTANTS", "Contestant", "main", "marginal_ms", "rows_of"]

SIZES: Final = (2, 8, 50, 100, 1000, 10_000)
Measured = Mapping[str, Mapping[int, Figures]]


@dataclass(frozen=True, slots=True)
class Contestant:
    """A program, its largest size, its options, and how it is compared with which row of ours."""

    name: str
    most: int
    options: tuple[str, ...] = ()
    beside: str = ""
    at_least: float = 0.0  # times our marginal cost


OURS: Final = "ours, memory and inline"
OURS_SGD: Final = "ours, a step of SGD"
CONTESTANTS: Final = (
    Contestant("nvflare", 50, beside=OURS, at_least=100.0),
    Contestant("flower", 1000, beside=OURS, at_least=30.0),
    Contestant("pfl, a step of SGD", 10_000, beside=OURS_SGD, at_least=1 / 1.5),
    Contestant("pfl, bare", 10_000, ("--bare",), beside=OURS, at_least=1 / 1.5),
    Contestant(OURS, 10_000, ("--work", "add", "--workers", "inline")),
    Contestant(OURS_SGD, 10_000, ("--work", "sgd", "--workers", "inline")),
    Contestant(
        "ours, tcp and processes",
        1000,
        ("--work", "add", "--workers", "process", "--transport", "tcp"),
    ),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all and print the report."""
    options = parser().parse_args(arguments)
    envs = options.envs or Path(tempfile.gettempdir()) / "flare-bench-envs"
    chosen = [one for one in CONTESTANTS if not options.only or one.name in options.only]
    sizes = [size for size in SIZES if size <= options.most]
    measured: dict[str, dict[int, Figures]] = {one.name: {} for one in chosen}
    for size in sizes:
        for one in chosen:
            if size <= one.most:
                tell(f"{one.name}, {size} clients")
                measured[one.name][size] = run(one, size, options, envs.absolute())
    rows = rows_of(measured, options.rounds)
    if options.picture:
        draw(measured, options.rounds, options.picture)
    if options.json:
        document = {
            **Report("peers.crowd", rows).document(),
            "versions": versions(chosen, envs.absolute()),
            "runs": as_data(measured),
        }
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
        return
    Report("peers.crowd", rows).show(as_json=False)
    sys.stdout.write(", ".join(versions(chosen, envs.absolute())) + "\n")


def run(one: Contestant, size: int, options: argparse.Namespace, envs: Path) -> Figures:
    """Run one program with so many clients."""
    exchange = Exchange(
        clients=size,
        rounds=options.rounds,
        nbytes=options.size,
        timeout=options.timeout,
        envs=envs,
        noted=False,
    )
    return run_peer(one.name, exchange, *one.options)


def marginal_ms(found: Mapping[int, Figures], rounds: int) -> float | None:
    """Return milliseconds a client-round between the two largest sizes; None with fewer."""
    sizes = sorted(size for size, figures in found.items() if not figures.problem)
    if len(sizes) < 2:
        return None
    few, many = sizes[-2:]
    seconds = found[many].wall - found[few].wall
    return seconds / ((many - few) * rounds) * 1e3


def rows_of(measured: Measured, rounds: int) -> list[Row]:
    """Return wall and memory at every size, marginal costs, and the ratios to ours."""
    rows: list[Row] = []
    for size in sorted({size for found in measured.values() for size in found}):
        for name, found in measured.items():
            if size in found:
                rows += rows_of_size(f"{size} clients", name, found[size])
    costs = {name: marginal_ms(found, rounds) for name, found in measured.items()}
    for name, cost in costs.items():
        if cost is not None:
            rows.append(Row("a client-round more", name, cost, "ms"))
    for one in CONTESTANTS:
        rows += ratios(one, measured, costs)
    return rows


def rows_of_size(case: str, name: str, found: Figures) -> list[Row]:
    """Return what one program took, or that it failed."""
    if found.problem:
        sys.stderr.write(f"{name}, {case} failed: {found.problem}\n")
        return [Row(case, f"{name}: failed", 1)]
    return [
        Row(case, f"{name}: wall", found.wall, "s"),
        Row(case, f"{name}: memory of all", found.peak / 1e6, "MB"),
    ]


def ratios(one: Contestant, measured: Measured, costs: Mapping[str, float | None]) -> list[Row]:
    """Return how many times our cost and our memory a peer needs."""
    theirs, ours = costs.get(one.name), costs.get(one.beside)
    if not theirs or not ours:
        return []
    cost = Row("ratios", f"{one.name} / {one.beside}: a client-round more", theirs / ours, "x")
    rows = [cost.against("target, at least", one.at_least)]
    for size, found in measured[one.name].items():
        mine = measured[one.beside].get(size)
        if mine and not mine.problem and not found.problem:
            name = f"{one.name} / {one.beside}: memory, {size} clients"
            rows.append(Row("ratios", name, found.peak / mine.peak, "x").against("above", 1.0))
    return rows


def versions(chosen: Sequence[Contestant], envs: Path) -> list[str]:
    """Return what was run."""
    peers = {one.name.partition(",")[0] for one in chosen} & set(PACKAGES)
    ours = f"flare-async {metadata.version('flare-async')}, Python {platform.python_version()}"
    return [*(version_of(peer, envs) for peer in sorted(peers)), ours, str(machine_facts())]


def as_data(measured: Measured) -> dict[str, dict[str, object]]:
    """Return all figures by program and size."""
    return {
        name: {str(size): asdict(figures) for size, figures in found.items()}
        for name, found in measured.items()
    }


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    found = argparse.ArgumentParser(prog="python -m bench.peers.crowd", description=__doc__)
    found.add_argument("--size", type=parse_size, default=100_000, help="of the model (100KB)")
    found.add_argument("--rounds", type=int, default=3, help="(3)")
    found.add_argument("--most", type=int, default=SIZES[-1], help="clients (10000)")
    names = [one.name for one in CONTESTANTS]
    found.add_argument("--only", choices=names, action="append", help="(all of them)")
    found.add_argument("--envs", type=Path, help="where the peers are installed (temporary folder)")
    found.add_argument("--timeout", type=float, default=300.0, help="seconds for each (300)")
    found.add_argument("--picture", type=Path, help="write a chart there")
    found.add_argument("--json", action="store_true", help="print one JSON document")
    return found


if __name__ == "__main__":
    main()
