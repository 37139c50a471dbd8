"""Three rounds of a recipe of one's own, with four sites that want different numbers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from recipe import FitRecipe

from flare_async import FLModel, Run, SimEnv
from flare_async.jobs.site import Site

__all__ = ["main", "recipe", "train"]


def train(model: FLModel, site: Site) -> FLModel:
    """Move halfway to the site's own numbers, and say how far away they were."""
    weights, wanted = model.params["w"], np.full(3, site.index + 1.0)
    loss = float(((weights - wanted) ** 2).mean()) + 0.1
    new = weights + 0.5 * (wanted - weights)
    return FLModel(params={"w": new}, metrics={"loss": loss}, meta={"loss": loss})


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n_clients", type=int, default=4)
    parser.add_argument("--num_rounds", type=int, default=3)
    parser.add_argument("--workspace", help="where the run folder is made")
    return parser.parse_args(argv)


def recipe(args: argparse.Namespace | None = None) -> FitRecipe:
    """Return the job, by default as without options: for ``hunt`` and ``what-if``, too."""
    args = args or options([])
    return FitRecipe(
        model={"w": np.zeros(3)},
        train=train,
        min_clients=args.n_clients,
        num_rounds=args.num_rounds,
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
