"""Swarm learning on digits that differ from site to site."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from model import Net

from flare_async import Run, SimEnv
from flare_async.recipes import ClientCyclicRecipe, SwarmRecipe

__all__ = ["main", "recipe"]

HERE = Path(__file__).resolve().parent


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n_clients", type=int, default=3)
    parser.add_argument("--num_rounds", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--algorithm", choices=["swarm", "cyclic"], default="swarm")
    parser.add_argument("--cross_site_eval", action="store_true")
    parser.add_argument("--transport", choices=["memory", "tcp", "unix"], default="memory")
    parser.add_argument("--relays", type=int)
    parser.add_argument("--launch_external_process", action="store_true")
    parser.add_argument("--workspace", help="where the run folder is made")
    return parser.parse_args(argv)


def recipe(args: argparse.Namespace | None = None) -> SwarmRecipe | ClientCyclicRecipe:
    """Return the job, by default as without options: for ``hunt`` and ``what-if``, too."""
    args = args or options([])
    torch.manual_seed(7)  # the initial weights
    shared = {
        "name": "swarm",
        "model": Net(),
        "min_clients": 2,
        "num_rounds": args.num_rounds,
        "train_script": HERE / "client.py",
        "train_args": f"--n_clients {args.n_clients} --epochs {args.epochs}",
        "launch_external_process": args.launch_external_process,
    }
    if args.algorithm == "cyclic":
        return ClientCyclicRecipe(order="RANDOM", **shared)
    return SwarmRecipe(do_cross_site_eval=args.cross_site_eval, **shared)


def main(argv: Sequence[str] | None = None) -> Run:
    """Run the job; a run that fails raises."""
    args = options(argv)
    env = SimEnv(
        num_clients=args.n_clients,
        transport=args.transport,
        relays=args.relays,
        workspace_root=args.workspace,
    )
    run = recipe(args).execute(env)
    print(f"status: {run.get_status()}")
    print(f"aggregators: {[record.aggregator for record in run.history.rounds]}")
    print(f"metrics: {dict(run.history.rounds[-1].metrics)}")
    print(f"results: {run.get_result()}")
    return run


if __name__ == "__main__":
    main()
