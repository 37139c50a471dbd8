"""Every model at every site: after training, or of models that are there already."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flare_async import Run, SimEnv
from flare_async.recipes import FedAvgRecipe, NumpyCrossSiteEvalRecipe, add_cross_site_evaluation

__all__ = ["main", "recipe"]

HERE = Path(__file__).resolve().parent


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mode", choices=["training", "pretrained"], default="training")
    parser.add_argument("--n_clients", type=int, default=2)
    parser.add_argument("--num_rounds", type=int, default=3)
    parser.add_argument("--launch_external_process", action="store_true")
    parser.add_argument("--workspace", type=Path, default=None)
    return parser.parse_args(argv)


def recipe(args: argparse.Namespace | None = None) -> FedAvgRecipe | NumpyCrossSiteEvalRecipe:
    """Return the job, by default as without options: for ``hunt`` and ``what-if``, too."""
    args = args or options([])
    first = np.arange(1, 10, dtype=np.float32).reshape(3, 3)
    if args.mode == "training":
        found = FedAvgRecipe(
            name="hello-numpy-cross-val",
            model=first,
            min_clients=args.n_clients,
            num_rounds=args.num_rounds,
            key_metric="weight_mean",
            train_script=HERE / "client.py",
            launch_external_process=args.launch_external_process,
        )
        add_cross_site_evaluation(found)
        return found
    folder = args.workspace or Path(tempfile.mkdtemp(prefix="pretrained-"))
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "pretrained.npy", first)
    return NumpyCrossSiteEvalRecipe(
        name="hello-numpy-cross-val",
        min_clients=args.n_clients,
        eval_script=HERE / "client.py",
        model_dir=folder,
        model_name={"pretrained": "pretrained.npy"},
        launch_external_process=args.launch_external_process,
    )


def main(argv: Sequence[str] | None = None) -> Run:
    """Run the job; a run that fails raises."""
    args = options(argv)
    env = SimEnv(num_clients=args.n_clients, workspace_root=args.workspace)
    run = recipe(args).execute(env)
    results = run.get_result() / "cross_site_val" / "cross_val_results.json"
    for site, models in json.loads(results.read_text("utf-8")).items():
        print(f"{site}: {models}")
    print(f"status: {run.get_status()}")
    print(f"results: {run.get_result()}")
    return run


if __name__ == "__main__":
    main()
