"""The training script of a site: adds one to every number that it receives."""

from __future__ import annotations

import argparse

import numpy as np

import flare_async.client as flare
from flare_async.client import FLModel, NPConstants, ParamsType
from flare_async.client.tracking import SummaryWriter

__all__ = ["main"]


def train(array: np.ndarray) -> np.ndarray:
    """Return the new weights; this is where a model would be fitted."""
    return array + 1


def evaluate(array: np.ndarray) -> dict[str, object]:
    """Return metrics; NumPy's own numbers are as good as Python's."""
    return {"weight_mean": np.mean(array)}


def main() -> None:
    """Take part in the job, a round after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--update_type", choices=["full", "diff"], default="full")
    args = parser.parse_args()

    flare.init()
    print(f"site: {flare.system_info()['site_name']}")
    writer = SummaryWriter()
    while flare.is_running():
        input_model = flare.receive()
        received = input_model.params[NPConstants.NUMPY_KEY]
        metrics = evaluate(received)
        print(f"round {input_model.current_round}: {metrics}")

        trained = train(received)
        writer.add_scalar("weight_mean", trained.mean(), input_model.current_round)
        is_diff = args.update_type == "diff"
        flare.send(
            FLModel(
                params_type=ParamsType.DIFF if is_diff else ParamsType.FULL,
                params={NPConstants.NUMPY_KEY: trained - received if is_diff else trained},
                metrics=metrics,
                meta={"NUM_STEPS_CURRENT_ROUND": 1},
            )
        )


if __name__ == "__main__":
    main()
