"""Federated learning without rounds: FedBuff, or asynchronous FedAvg."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from sites import CLASSES, FEATURES, evaluate, train

from flare_async import Run, SimEnv
from flare_async.recipes import AsyncFedAvgRecipe, FedBuffRecipe

__all__ = ["main", "recipe"]


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--algorithm", choices=["fedbuff", "async_fedavg"], default="fedbuff")
    parser.add_argument("--n_clients", type=int, default=6)
    parser.add_argument("--num_rounds", type=int, default=15, help="versions of the model")
    parser.add_argument("--concurrency", type=int, default=3)
    parser.add_argument("--replay", help="the folder of a run whose order is played again")
    parser.add_argument("--workspace", help="where the run folder is made")
    return parser.parse_args(argv)


def recipe(args: argparse.Namespace | None = None) -> FedBuffRecipe | AsyncFedAvgRecipe:
    """Return the job, by default as without options: for ``hunt`` and ``what-if``, too."""
    args = args or options([])
    common = {
        "name": "hello-fedbuff",
        "model": {
            "weights": np.zeros((FEATURES, CLASSES), np.float32),
            "bias": np.zeros(CLASSES, np.float32),
        },
        "train": train,
        "evaluate": evaluate,
        "min_clients": 2,
        "num_rounds": args.num_rounds,
        "train_config": {"epochs": 5},
        "per_site_config": {"site-1": {"epochs": 50}},
        "concurrency": args.concurrency,
        "max_staleness": 10,
        "replay": args.replay,
    }
    if args.algorithm == "fedbuff":
        return FedBuffRecipe(**common, buffer_size=2)
    return AsyncFedAvgRecipe(**common, alpha=0.6)


def main(argv: Sequence[str] | None = None) -> Run:
    """Run the job; a run that fails raises."""
    args = options(argv)
    env = SimEnv(num_clients=args.n_clients, num_threads=2, workspace_root=args.workspace)
    run = recipe(args).execute(env)
    print(f"status: {run.get_status()}")
    print(f"metrics: {dict(run.history.models[-1].metrics)}")
    print(f"model: {run.model.model_digest()}")
    print(f"results: {run.get_result()}")
    return run


if __name__ == "__main__":
    main()
