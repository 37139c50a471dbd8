"""Accuracy of five algorithms on unlike sites: ``python -m bench.algorithms [--picture FILE]``.

Handwritten digits, divided among ten sites by a Dirichlet draw with alpha 0.1; all sites take part
in every round and train for five epochs. The first figure of each algorithm is its accuracy on the
test set after so many rounds, as a mean over seeds with the smallest and the largest beside it. A
round is the work of ten client updates, also for FedBuff, which has no rounds.

Hyper-parameters are those that ``--grid`` has chosen on validation images; it plays the grid and
writes its outcome to ``bench/data/algorithms-grid.json``.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Final

import structlog

from bench.algorithms_grid import COMMAND, DATA, GRIDS, Grid, searched
from bench.algorithms_picture import draw
from bench.algorithms_runs import NAMES, Curves, Point, play
from bench.table import Report, Row

__all__ = ["main"]

SHOWN: Final = (1, 5, 10, 20, 30, 40)
SEEDS: Final = (1, 2, 3)
GRID_SEEDS: Final = (101, 102)
ROUNDS, GRID_ROUNDS = 40, 20


def rows_of(name: str, point: Point, found: Sequence[Curves]) -> list[Row]:
    """Return an algorithm's rows: the accuracies at some rounds, and over all of them."""
    case = ", ".join([name, *(f"{key} {value:g}" for key, value in point.items())])
    last = len(found[0].accuracy) - 1
    rows = []
    for number in [*(shown for shown in SHOWN if shown < last), last]:
        values = [100 * curves.accuracy[number] for curves in found]
        rows.append(Row(case, f"accuracy, round {number}", fmean(values), "%"))
        rows.append(Row(case, f"accuracy, round {number}, smallest", min(values), "%"))
        rows.append(Row(case, f"accuracy, round {number}, largest", max(values), "%"))
    over = [100 * fmean(curves.accuracy[1:]) for curves in found]
    rows.append(Row(case, "accuracy, mean of all rounds", fmean(over), "%"))
    rows.append(Row(case, "loss at the end", fmean(curves.loss[-1] for curves in found)))
    return rows


def played(options: argparse.Namespace, points: Mapping[str, Point]) -> Mapping[str, list[Curves]]:
    """Play their points with every seed."""
    rounds, seeds = options.rounds or ROUNDS, options.seeds or SEEDS
    return {
        name: [play(name, point, rounds=rounds, seed=seed, test=True) for seed in seeds]
        for name, point in points.items()
    }


def search(options: argparse.Namespace, names: Sequence[str]) -> Grid:
    """Play the grid; say on standard error how each point did."""
    rounds, seeds = options.rounds or GRID_ROUNDS, options.seeds or GRID_SEEDS
    outcomes = {}
    for name in names:
        outcomes[name] = []
        for found in searched([name], rounds, seeds):
            sys.stderr.write(f"{name} {found}\n")
            outcomes[name].append(found)
    return Grid(COMMAND, rounds, seeds, outcomes)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the bench and print its report."""
    import torch

    options = parser().parse_args(arguments)
    names = options.only or NAMES
    # Training inline blocks the loop, and that is meant: warnings about it say nothing here.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    torch.set_num_threads(1)
    if options.grid:
        grid = search(options, names)
        grid.write(options.data)
        rows = [row for name in names for row in grid_rows(grid, name)]
    else:
        grid = Grid.read(options.data)
        points = {name: options.point or grid.chosen(name) for name in names}
        curves = played(options, points)
        rows = [row for name in names for row in rows_of(name, points[name], curves[name])]
        if options.picture:
            draw(curves, options.picture)
    Report("algorithms", rows).show(as_json=options.json)


def grid_rows(grid: Grid, name: str) -> list[Row]:
    """Return the best and the worst of an algorithm's points."""
    found = [100 * one.accuracy for one in grid.outcomes[name]]
    best = Row(name, "validation accuracy, best point", max(found), "%")
    return [
        Row(name, "points", len(GRIDS[name])),
        best.against("worst point", min(found)),
    ]


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    found = argparse.ArgumentParser(prog="python -m bench.algorithms", description=__doc__)
    found.add_argument("--rounds", type=int, help=f"({ROUNDS}, with --grid {GRID_ROUNDS})")
    found.add_argument("--seeds", type=int, nargs="+", help="(1 2 3, with --grid 101 102)")
    found.add_argument("--only", choices=NAMES, action="append", help="may come twice (all)")
    found.add_argument("--grid", action="store_true", help="choose the hyper-parameters anew")
    found.add_argument("--point", type=json.loads, help="play this in place of what was chosen")
    found.add_argument("--data", type=Path, default=DATA, help="the grid's outcome")
    found.add_argument("--picture", type=Path, help="draw the curves into this PNG file")
    found.add_argument("--json", action="store_true", help="print one JSON document")
    return found


if __name__ == "__main__":
    main()
