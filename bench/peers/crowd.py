"""What a client costs, here and elsewhere: ``python -m bench.peers.crowd [--json] [--write]``.

Every client adds one to a float32 model of 100 KB, three rounds long, with more and more clients:
NVFlare's simulator up to 50 (with 100 it hangs: ``--beyond`` tries), Flower's up to 1,000, pfl and
we up to 10,000. All run in one session, one after another, in environments that the bench makes.
``wall`` is the whole program, imports included, and ``memory`` the resident memory of all its
processes together at its largest. The marginal cost of a client-round is (wall(n2) - wall(n1)) /
((n2 - n1) * rounds) for the two largest sizes that a program was run with, of the medians of
``--runs``. Beside it stands the floor: adding one to a model, and summing it with a weight.

pfl moves no message and trains PyTorch models: its client takes a step of SGD that adds one, and
"pfl, bare" is the least that it can do for a client. Ours has a row for either. A program that
fails is printed as failed, without ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.clients import floor_us
from bench.peers.__main__ import tell
from bench.peers.chart import draw
from bench.peers.contestants import CONTESTANTS, SIZES, Contestant, sizes_of
from bench.peers.crowd_page import DATA, PAGE, PICTURE, renew
from bench.peers.crowd_rows import medians_of, rows_of
from bench.peers.environments import versions_in
from bench.peers.exchange import Exchange, Figures, run_peer
from bench.size import parse_size
from bench.table import Report

__all__ = ["document_of", "main", "measure", "parser"]

Found = dict[str, dict[int, list[Figures]]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all and print the report."""
    options = parser().parse_args(arguments)
    envs = (options.envs or Path(tempfile.gettempdir()) / "flare-bench-envs").absolute()
    chosen = [one for one in CONTESTANTS if not options.only or one.name in options.only]
    load = os.getloadavg()[0]
    measured = measure(chosen, options, envs)
    medians = medians_of(measured)
    report = Report("peers.crowd", rows_of(medians, options.rounds, floor_us(options.size) / 1e3))
    document = document_of(report, chosen, measured, options, envs)
    document["load_before"] = round(load, 2)
    text = json.dumps(document, indent=1) + "\n"
    for path in [options.picture, *([PICTURE] if options.write else [])]:
        if path is not None:
            draw(medians, options.rounds, path)
    if options.write:
        DATA.write_text(text, encoding="utf-8")
        renew(PAGE, document)
    if options.json:
        sys.stdout.write(text)
        return
    report.show(as_json=False)
    sys.stdout.write(json.dumps(document["versions"]) + "\n")


def measure(chosen: Sequence[Contestant], options: argparse.Namespace, envs: Path) -> Found:
    """Run all programs with all their sizes, as often as asked for; programs alternate."""
    measured: Found = {one.name: {} for one in chosen}
    for number in range(options.runs):
        for size in SIZES:
            for one in chosen:
                if size in sizes_of(one, options.most, beyond=options.beyond):
                    tell(f"run {number + 1} of {options.runs}: {one.name}, {size} clients")
                    found = run(one, size, options, envs)
                    measured[one.name].setdefault(size, []).append(found)
    return measured


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


def document_of(
    report: Report,
    chosen: Sequence[Contestant],
    measured: Found,
    options: argparse.Namespace,
    envs: Path,
) -> dict[str, object]:
    """Return all there is to know: settings, versions, rows, every run, and what was not run."""
    names = ("size", "rounds", "runs", "timeout", "most")
    peers = sorted({one.name.partition(",")[0] for one in chosen})
    missing = {one.name: one.beyond for one in chosen if one.beyond and not options.beyond}
    return {
        **report.document(),
        "settings": {name: getattr(options, name) for name in names},
        "versions": {peer: versions_in(peer, envs) for peer in peers},
        "not_run": missing,
        "runs": {
            name: {str(size): [one.row() for one in found] for size, found in runs.items()}
            for name, runs in measured.items()
        },
    }


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    found = argparse.ArgumentParser(prog="python -m bench.peers.crowd", description=__doc__)
    found.add_argument("--size", type=parse_size, default=100_000, help="of the model (100KB)")
    found.add_argument("--rounds", type=int, default=3, help="(3)")
    found.add_argument("--most", type=int, default=SIZES[-1], help="clients (10000)")
    found.add_argument("--runs", type=int, default=1, help="medians of so many (1)")
    names = [one.name for one in CONTESTANTS]
    found.add_argument("--only", choices=names, action="append", help="(all of them)")
    found.add_argument("--beyond", action="store_true", help="NVFlare with 100 clients as well")
    found.add_argument("--envs", type=Path, help="where the peers are installed (temporary folder)")
    found.add_argument("--timeout", type=float, default=300.0, help="seconds for each (300)")
    found.add_argument("--picture", type=Path, help="write a chart there")
    found.add_argument("--write", action="store_true", help="keep all in bench/data and docs")
    found.add_argument("--json", action="store_true", help="print one JSON document")
    return found


if __name__ == "__main__":
    main()
