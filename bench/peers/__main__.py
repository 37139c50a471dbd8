"""The same exchange by NVFlare, Flower and us, in one session: ``python -m bench.peers``.

Every client adds one to a float32 model of ``--model-mb``; each result is checked. Each program has
its documented fastest set-up for one machine, which its file in ``bench/peers`` tells. ``wall`` is
the whole program, imports included; ``a round`` the median time between two trainings of a site;
``memory`` the resident memory of all processes together at its largest. A program that fails is
printed as failed, without ratios.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.peers.exchange import Exchange, Figures, run_peer
from bench.size import parse_size
from bench.table import Report, Row

__all__ = ["main", "rows_of"]

PEERS: Final = ("nvflare", "flower")
TARGETS: Final = {"nvflare": 12.0, "flower": 8.0, "flower, deployed": 5.0}
LESS_MEMORY: Final = 4.0
SERVER_MB: Final = 1100.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all and print the report."""
    options = parser().parse_args(arguments)
    envs = options.envs or Path(tempfile.gettempdir()) / "flare-bench-envs"
    exchange = Exchange(
        clients=options.clients,
        rounds=options.rounds,
        nbytes=options.model_mb * 1_000_000,
        timeout=options.timeout,
        envs=envs.absolute(),
        workspace=options.workspace,
        warm=options.warm,
    )
    found: dict[str, Figures] = {}
    for name in options.peer or PEERS:
        tell(name)
        found[name] = run_peer(name, exchange)
    tell("ours")
    words = ("--workers", options.workers, "--transport", options.transport)
    found["ours"] = run_peer("ours", exchange, *words)
    case = f"{exchange.clients} clients x {exchange.rounds} rounds x {options.model_mb} MB"
    rows = rows_of(f"{case}, simulated", found)
    if options.real:
        rows += rows_of(f"{case}, real processes", deployed(exchange))
    Report("peers", rows).show(as_json=options.json)


def deployed(exchange: Exchange) -> Mapping[str, Figures]:
    """Run those that have real processes on one machine."""
    tell("flower, deployed")
    flower = run_peer("flower, deployed", exchange)
    tell("ours, deployed")
    return {"flower, deployed": flower, "ours": run_peer("ours, deployed", exchange)}


def tell(name: str) -> None:
    """Say what runs now."""
    sys.stderr.write(f"bench.peers: {name}\n")
    sys.stderr.flush()


def rows_of(case: str, found: Mapping[str, Figures]) -> list[Row]:
    """Return the figures of all, and their ratios to ours."""
    rows: list[Row] = []
    ours = found["ours"]
    for name, one in found.items():
        if one.problem:
            sys.stderr.write(f"{name} failed: {one.problem}\n")
            rows.append(Row(case, f"{name}: failed", 1))
            continue
        rows.append(Row(case, f"{name}: wall", one.wall, "s"))
        rows.append(Row(case, f"{name}: a round, steady", one.round, "s"))
        rows.append(Row(case, f"{name}: memory of all", one.peak / 1e6, "MB"))
        rows.append(Row(case, f"{name}: memory, largest process", one.largest / 1e6, "MB"))
    if not ours.problem:
        for name, one in found.items():
            if name != "ours" and not one.problem:
                rows += ratios(case, name, one, ours)
    return rows


def ratios(case: str, name: str, one: Figures, ours: Figures) -> list[Row]:
    """Return how many times as much a peer takes, beside the targets."""
    wall = Row(case, f"{name} / ours: wall", one.wall / ours.wall, "x")
    memory = Row(case, f"{name} / ours: memory of all", one.peak / ours.peak, "x")
    rows = [
        wall.against("target, at least", TARGETS[name]),
        memory.against("target, at least", LESS_MEMORY),
    ]
    if ours.round:
        rows.insert(1, Row(case, f"{name} / ours: a round", one.round / ours.round, "x"))
    return rows


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    found = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    found.add_argument("--model-mb", type=int, default=500, help="(500)")
    found.add_argument("--clients", type=int, default=4, help="(4)")
    found.add_argument("--rounds", type=int, default=3, help="at least 2 for a steady round (3)")
    found.add_argument("--peer", choices=PEERS, action="append", help="(all of them)")
    found.add_argument("--workers", choices=("inline", "thread", "process"), default="thread")
    found.add_argument("--transport", choices=("memory", "tcp", "unix"), default="memory")
    found.add_argument("--real", action="store_true", help="real processes as well")
    found.add_argument("--envs", type=Path, help="where the peers are installed (temporary folder)")
    found.add_argument("--workspace", type=Path, help="where they write (temporary folder)")
    found.add_argument(
        "--warm",
        type=parse_size,
        default=0,
        help="touch so much memory before each, as in 16GB (0)",
    )
    found.add_argument("--timeout", type=float, default=600.0, help="seconds for each (600)")
    found.add_argument("--json", action="store_true", help="print one JSON document")
    return found


if __name__ == "__main__":
    main()
