"""A model that is there already, evaluated at every site; nobody trains."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from flare_async import Run, SimEnv
from flare_async.recipes import FedEvalRecipe

__all__ = ["main", "recipe"]

HERE = Path(__file__).resolve().parent


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n_clients", type=int, default=3)
    parser.add_argument("--launch_external_process", action="store_true")
    parser.add_argument("--workspace", help="where the run folder is made")
    return parser.parse_args(argv)


def pretrained() -> dict[str, np.ndarray]:
    """Return a classifier that was fitted to fifty samples."""
    samples, labels = load_breast_cancer(return_X_y=True)
    scaler = StandardScaler().fit(samples[:50])
    fitted = LogisticRegression().fit(scaler.transform(samples[:50]), labels[:50])
    return {
        "mean": scaler.mean_,
        "scale": scaler.scale_,
        "coef": fitted.coef_[0],
        "intercept": np.asarray(fitted.intercept_),
    }


def recipe(args: argparse.Namespace | None = None) -> FedEvalRecipe:
    """Return the job, by default as without options: for ``hunt`` and ``what-if``, too."""
    args = args or options([])
    return FedEvalRecipe(
        name="hello-fedeval",
        model=pretrained(),
        min_clients=args.n_clients,
        eval_script=HERE / "client.py",
        eval_args=f"--n_clients {args.n_clients}",
        launch_external_process=args.launch_external_process,
    )


def main(argv: Sequence[str] | None = None) -> Run:
    """Run the job; a run that fails raises."""
    args = options(argv)
    run = recipe(args).execute(SimEnv(num_clients=args.n_clients, workspace_root=args.workspace))
    print(f"status: {run.get_status()}")
    for site in run.history.rounds[0].sites:
        print(f"{site.site}: {dict(site.metrics)}")
    print(f"metrics: {dict(run.history.models[0].metrics)}")
    print(f"results: {run.get_result()}")
    return run


if __name__ == "__main__":
    main()
