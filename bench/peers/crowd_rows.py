"""The figures of ``bench.peers.crowd``: medians, marginal costs and ratios."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from bench.peers.contestants import CONTESTANTS, Contestant
from bench.peers.exchange import Figures
from bench.table import Row

__all__ = ["Measured", "Medians", "Runs", "marginal_ms", "medians_of", "rows_of", "two_largest"]

Runs: TypeAlias = Mapping[int, Sequence[Figures]]  # by number of clients
Measured: TypeAlias = Mapping[str, Runs]
Medians: TypeAlias = Mapping[str, Mapping[int, Figures]]


def medians_of(measured: Measured) -> Medians:
    """Return the figures of each program at each size."""
    return {
        name: {size: middle(found) for size, found in runs.items()}
        for name, runs in measured.items()
    }


def middle(runs: Sequence[Figures]) -> Figures:
    """Return the medians of some runs; if one has failed, that is what is to be told."""
    bad = [one.problem for one in runs if one.problem]
    if bad:
        return Figures(problem=f"{len(bad)} of {len(runs)} runs: {bad[0]}")
    return Figures(
        wall=statistics.median(one.wall for one in runs),
        peak=int(statistics.median(one.peak for one in runs)),
        largest=int(statistics.median(one.largest for one in runs)),
    )


def two_largest(found: Mapping[int, Figures]) -> tuple[int, int] | None:
    """Return the two largest sizes that went well; None with fewer."""
    sizes = sorted(size for size, figures in found.items() if not figures.problem)
    return (sizes[-2], sizes[-1]) if len(sizes) > 1 else None


def marginal_ms(found: Mapping[int, Figures], rounds: int) -> float | None:
    """Return milliseconds a client-round between the two largest sizes; None with fewer."""
    pair = two_largest(found)
    if pair is None:
        return None
    few, many = pair
    return (found[many].wall - found[few].wall) / ((many - few) * rounds) * 1e3


def rows_of(measured: Medians, rounds: int, floor_ms: float) -> list[Row]:
    """Return wall and memory at every size, marginal costs beside the floor, ratios to ours."""
    rows: list[Row] = []
    for size in sorted({size for found in measured.values() for size in found}):
        for name, found in measured.items():
            if size in found:
                rows += rows_of_size(f"{size} clients", name, found[size])
    costs: dict[str, float] = {}
    for name, found in measured.items():
        cost, pair = marginal_ms(found, rounds), two_largest(found)
        if cost is not None and pair is not None:
            costs[name] = cost
            metric = f"{name}, {pair[0]} to {pair[1]} clients"
            row = Row("a client-round more", metric, cost, "ms")
            rows.append(row.against("floor: the arithmetic", floor_ms))
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


def ratios(one: Contestant, measured: Medians, costs: Mapping[str, float]) -> list[Row]:
    """Return how many times our cost and our memory a peer needs.

    A cost that noise has made negative has no ratio.
    """
    theirs, ours = costs.get(one.name, 0.0), costs.get(one.beside, 0.0)
    rows: list[Row] = []
    if theirs > 0 and ours > 0:
        cost = Row("ratios", f"{one.name} / {one.beside}: a client-round more", theirs / ours, "x")
        rows.append(cost.against("target, at least", one.at_least))
    for size, found in measured.get(one.name, {}).items():
        mine = measured.get(one.beside, {}).get(size)
        if mine and not mine.problem and not found.problem:
            name = f"{one.name} / {one.beside}: memory, {size} clients"
            ratio = Row("ratios", name, found.peak / mine.peak, "x")
            rows.append(ratio.against("target, above", 1.0))
    return rows
