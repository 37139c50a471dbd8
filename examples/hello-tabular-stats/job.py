"""Statistics of a table that no site shows: numbers, histograms and quantiles, as JSON and HTML."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from client import CancerStatistics

from flare_async import Run, SimEnv
from flare_async.recipes import FedStatsRecipe

__all__ = ["main", "recipe"]

COLUMNS = ["mean radius", "mean texture", "mean smoothness", "target"]
OUTPUT = "statistics/cancer.json"


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n_clients", type=int, default=3)
    parser.add_argument("--workers", default="thread", choices=["inline", "thread", "process"])
    parser.add_argument("--workspace", help="where the run folder is made")
    return parser.parse_args(argv)


def names(args: argparse.Namespace) -> list[str]:
    """Return the sites' names."""
    return [f"site-{number}" for number in range(1, args.n_clients + 1)]


def recipe(args: argparse.Namespace | None = None) -> FedStatsRecipe:
    """Return the job, by default as without options: for ``hunt`` and ``what-if``, too."""
    args = args or options([])
    return FedStatsRecipe(
        name="hello-tabular-stats",
        stats_output_path=OUTPUT,
        sites=names(args),
        statistic_configs={
            "count": {},
            "failure_count": {},
            "mean": {},
            "stddev": {},
            "min": {},
            "max": {},
            "histogram": {"*": {"bins": 10}, "target": {"bins": 2, "range": [0, 1]}},
            "quantile": {"*": [0.25, 0.5, 0.75]},
        },
        stats_generator=CancerStatistics(COLUMNS),
    )


def main(argv: Sequence[str] | None = None) -> Run:
    """Run the job; a run that fails raises."""
    args = options(argv)
    env = SimEnv(clients=names(args), workers=args.workers, workspace_root=args.workspace)
    run = recipe(args).execute(env)
    found = json.loads((run.get_result() / OUTPUT).read_text("utf-8"))
    for feature, statistics in found.items():
        mean, spread = (statistics[name]["Global"]["train"] for name in ("mean", "stddev"))
        count = statistics["count"]["Global"]["train"]
        print(f"{feature}: {count} values, mean {mean}, standard deviation {spread}")
    print(f"status: {run.get_status()}")
    print(f"results: {run.get_result()}")
    return run


if __name__ == "__main__":
    main()
