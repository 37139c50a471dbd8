"""Federated averaging of a convolutional network, trained with PyTorch."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from model import Net

from flare_async import Run, SimEnv
from flare_async.recipes import FedAvgRecipe

__all__ = ["main", "recipe"]

HERE = Path(__file__).resolve().parent


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n_clients", type=int, default=2)
    parser.add_argument("--num_rounds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--launch_external_process", action="store_true")
    parser.add_argument("--client_memory_gc_rounds", type=int, default=0)
    parser.add_argument("--workspace", help="where the run folder is made")
    return parser.parse_args(argv)


def recipe(args: argparse.Namespace | None = None) -> FedAvgRecipe:
    """Return the job, by default as without options: for ``hunt`` and ``what-if``, too."""
    args = args or options([])
    torch.manual_seed(7)  # the initial weights
    return FedAvgRecipe(
        name="hello-pt",
        model=Net(),
        min_clients=args.n_clients,
        num_rounds=args.num_rounds,
        train_script=HERE / "client.py",
        train_args=(
            f"--n_clients {args.n_clients} --epochs {args.epochs} --batch_size {args.batch_size}"
        ),
        launch_external_process=args.launch_external_process,
        client_memory_gc_rounds=args.client_memory_gc_rounds,
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
