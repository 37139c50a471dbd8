"""What one more simulated client costs: ``python -m bench.clients [--clients 10000] [--json]``.

Rounds in which every client adds one to its model, each case in a fresh process through the public
API: all clients, and a tenth of them, so that the difference is what a client-round costs where
many are there. Beside it stands the *floor*, the arithmetic that cannot be done without: the client
adds one, and the mean multiplies and adds, with the product's own kernel and accumulator. Frames,
acknowledgements and tasks are counted with few clients, over memory and over tcp: the simulator
runs the code that real sites run, so they agree.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Final

from bench.child import run_child
from bench.empty import Case
from bench.rounds import COUNTED_CLIENTS, COUNTED_ROUNDS, COUNTS, describe
from bench.size import parse_size
from bench.table import Report, Row

__all__ = ["floor_us", "main"]

WALL_TARGET_S: Final = 10.0  # 10,000 clients, 3 rounds, 100 KB
RSS_TARGET_MB: Final = 1000.0
MARGINAL_TARGET_MS: Final = 0.3
TARGET_CASE: Final = (10_000, 3, 100_000)
SHARE: Final = 10  # the other case has so many times fewer clients
FLOOR_TRIES: Final = 200


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the bench and print its report."""
    options = parser().parse_args(arguments)
    many = Case(
        options.clients, options.rounds, options.size, options.transport, "inline", adds=True
    )
    few = replace(many, clients=max(1, many.clients // SHARE))
    less, more = (run_child("bench.empty", asdict(case)) for case in (few, many))
    rows = [*whole_rows(many, more), *marginal_rows(few, many, less, more), *count_rows(many)]
    Report("clients", rows).show(as_json=options.json)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    found = argparse.ArgumentParser(prog="python -m bench.clients", description=__doc__)
    found.add_argument("--clients", type=int, default=10_000, help="(10000)")
    found.add_argument("--rounds", type=int, default=3, help="(3)")
    found.add_argument("--size", type=parse_size, default=100_000, help="of the model (100KB)")
    found.add_argument("--transport", choices=("memory", "tcp", "unix"), default="memory")
    found.add_argument("--json", action="store_true", help="print one JSON document")
    return found


def whole_rows(case: Case, found: dict[str, float]) -> list[Row]:
    """Return what the case took as a whole."""
    name = describe(case)
    wall = Row(name, "wall: connect, rounds, files", found["wall_s"], "s")
    peak = Row(name, "peak RSS", found["peak_rss_mb"], "MB")
    if (case.clients, case.rounds, case.nbytes) == TARGET_CASE:
        wall = wall.against("target, below", WALL_TARGET_S)
        peak = peak.against("target, below", RSS_TARGET_MB)
    return [
        wall,
        Row(name, "start-up: connect", found["connect_s"], "s"),
        Row(name, "all rounds", found["rounds_s"], "s"),
        Row(name, "processor time of the whole", found["cpu_s"], "s"),
        peak,
    ]


def marginal_rows(
    few: Case, many: Case, less: dict[str, float], more: dict[str, float]
) -> list[Row]:
    """Return what one more client costs, and what the arithmetic alone does."""
    name = f"{few.clients} to {describe(many)}"
    clients = many.clients - few.clients
    floor = floor_us(many.nbytes) / 1e3

    def cost(key: str) -> float:
        return (more[key] - less[key]) / (clients * many.rounds) * 1e3

    marginal = Row(name, "marginal client-round, with connecting", cost("wall_s"), "ms")
    return [
        marginal.against("target, below", MARGINAL_TARGET_MS),
        Row(name, "marginal client-round, rounds alone", cost("rounds_s"), "ms").against(
            "floor: the arithmetic", floor
        ),
        Row(name, "the same in processor time", cost("cpu_s"), "ms"),
        Row(
            name, "RSS a client", (more["peak_rss_mb"] - less["peak_rss_mb"]) / clients * 1e3, "KB"
        ),
    ]


def count_rows(case: Case) -> list[Row]:
    """Count frames, acknowledgements and tasks over memory and over tcp."""
    clients = min(case.clients, COUNTED_CLIENTS)
    small = replace(case, clients=clients, rounds=COUNTED_ROUNDS, counting=True)
    here, there = (
        run_child("bench.empty", asdict(replace(small, transport=name)))
        for name in ("memory", "tcp")
    )
    name = f"counted: {clients} clients, memory"
    return [Row(name, text, here[key]).against("over tcp", there[key]) for key, text in COUNTS]


def floor_us(nbytes: int) -> float:
    """Return the microseconds of a client-round's arithmetic, at best: adding one, and the sum."""
    import numpy as np

    from flare_async.transfer.kernel import Addend, accumulate, new_scratch

    values, one = np.ones(max(1, nbytes // 4), np.float32), np.float32(1)
    addend = Addend("F32", values.view(np.uint8).data, 2.0)
    total, scratch = np.zeros(values.size, np.float64), new_scratch("float64")
    summed = best_of(lambda: accumulate(total, addend, scratch))
    return (best_of(lambda: values + one) + summed) * 1e6


def best_of(work: Callable[[], object]) -> float:
    """Return the seconds of the fastest of some tries."""
    best = float("inf")
    for _ in range(FLOOR_TRIES):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best


if __name__ == "__main__":
    main()
