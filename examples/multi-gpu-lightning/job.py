"""Federated averaging where every site trains with several processes: Lightning's DDP.

Several processes need ``--launch_external_process``; without it the same script runs in a thread,
as one process.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from model import LitNet

from flare_async import Run, SimEnv
from flare_async.recipes import FedAvgRecipe

__all__ = ["main", "recipe"]

HERE = Path(__file__).resolve().parent


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n_clients", type=int, default=2)
    parser.add_argument("--num_rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--devices", type=int, default=2, help="processes a site")
    parser.add_argument("--gpu_config", help='the devices of the sites, such as "[0,1],[2,3]"')
    parser.add_argument("--launch_external_process", action="store_true")
    parser.add_argument("--workspace", help="where the run folder is made")
    return parser.parse_args(argv)


def recipe(args: argparse.Namespace | None = None) -> FedAvgRecipe:
    """Return the job, by default as without options: for ``hunt`` and ``what-if``, too."""
    args = args or options([])
    torch.manual_seed(7)  # the initial weights
    devices = args.devices if args.launch_external_process else 1
    return FedAvgRecipe(
        name="multi-gpu-lightning",
        model=LitNet(),
        key_metric="val_acc",
        min_clients=args.n_clients,
        num_rounds=args.num_rounds,
        train_script=HERE / "client.py",
        train_args=(
            f"--n_clients {args.n_clients} --epochs {args.epochs} "
            f"--batch_size {args.batch_size} --devices {devices}"
        ),
        launch_external_process=args.launch_external_process,
    )


def main(argv: Sequence[str] | None = None) -> Run:
    """Run the job; a run that fails raises."""
    args = options(argv)
    env = SimEnv(
        num_clients=args.n_clients, workspace_root=args.workspace, gpu_config=args.gpu_config
    )
    run = recipe(args).execute(env)
    print(f"status: {run.get_status()}")
    print(f"metrics: {dict(run.history.rounds[-1].metrics)}")
    print(f"results: {run.get_result()}")
    return run


if __name__ == "__main__":
    main()
