"""FedAvg with a robust mean in place of the weighted one, where some sites send nonsense."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from sites import FEATURES, evaluate, train

from flare_async import Run, SimEnv
from flare_async.recipes import FedAvgRecipe, Krum, Median, TrimmedMean

__all__ = ["main", "recipe"]

AGGREGATORS = {
    "mean": None,
    "median": Median(),
    "trimmed_mean": TrimmedMean(0.25),
    "krum": Krum(f=2),
    "multi_krum": Krum(f=2, m=3),
}


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--aggregator", choices=sorted(AGGREGATORS), default="median")
    parser.add_argument("--n_clients", type=int, default=8)
    parser.add_argument("--num_rounds", type=int, default=5)
    parser.add_argument("--liars", type=int, default=2)
    parser.add_argument("--workspace", help="where the run folder is made")
    return parser.parse_args(argv)


def recipe(args: argparse.Namespace | None = None) -> FedAvgRecipe:
    """Return the job, by default as without options: for ``hunt`` and ``what-if``, too."""
    args = args or options([])
    return FedAvgRecipe(
        name="robust-means",
        model={"weights": np.zeros(FEATURES, np.float32)},
        train=train,
        evaluate=evaluate,
        min_clients=args.n_clients,
        num_rounds=args.num_rounds,
        aggregator=AGGREGATORS[args.aggregator],
        per_site_config={f"site-{at}": {"lies": True} for at in range(1, args.liars + 1)},
        key_metric="mse",
        lower_is_better=True,
    )


def main(argv: Sequence[str] | None = None) -> Run:
    """Run the job; a run that fails raises."""
    args = options(argv)
    run = recipe(args).execute(SimEnv(num_clients=args.n_clients, workspace_root=args.workspace))
    print(f"status: {run.get_status()}")
    print(f"metrics: {dict(run.history.models[-1].metrics)}")
    print(f"results: {run.get_result()}")
    return run


if __name__ == "__main__":
    main()
