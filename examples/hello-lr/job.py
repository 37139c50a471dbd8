"""Logistic regression by Newton's method: sites send gradients and Hessians."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from flare_async import Run, SimEnv
from flare_async.recipes import FedAvgLrRecipe

__all__ = ["main", "recipe"]

HERE = Path(__file__).resolve().parent


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n_clients", type=int, default=2)
    parser.add_argument("--num_rounds", type=int, default=8)
    parser.add_argument("--l2", type=float, default=1.0)
    parser.add_argument("--launch_external_process", action="store_true")
    parser.add_argument("--workspace", help="where the run folder is made")
    return parser.parse_args(argv)


def recipe(args: argparse.Namespace | None = None) -> FedAvgLrRecipe:
    """Return the job, by default as without options: for ``hunt`` and ``what-if``, too."""
    args = args or options([])
    return FedAvgLrRecipe(
        name="hello-lr",
        min_clients=args.n_clients,
        num_rounds=args.num_rounds,
        num_features=30,
        l2=args.l2,
        train_script=HERE / "client.py",
        train_args=f"--n_clients {args.n_clients}",
        launch_external_process=args.launch_external_process,
    )


def main(argv: Sequence[str] | None = None) -> Run:
    """Run the job; a run that fails raises."""
    args = options(argv)
    run = recipe(args).execute(SimEnv(num_clients=args.n_clients, workspace_root=args.workspace))
    print(f"status: {run.get_status()}")
    print(f"metrics: {dict(run.history.rounds[-1].metrics)}")
    print(f"results: {run.get_result()}")
    return run


if __name__ == "__main__":
    main()
