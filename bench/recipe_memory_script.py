"""A site of ``bench.recipe_memory`` that submits a model and evaluates those of others."""

from __future__ import annotations

import numpy as np

import flare_async.client as flare
from flare_async.client import FLModel, NPConstants

__all__ = ["main"]


def main() -> None:
    """Take part in the job."""
    flare.init()
    while flare.is_running():
        received = flare.receive()
        params = {} if received is None else received.params or {}
        array = np.asarray(params[NPConstants.NUMPY_KEY])
        if flare.is_submit_model():
            flare.send(FLModel(params={NPConstants.NUMPY_KEY: np.ones_like(array)}))
        else:
            flare.send(FLModel(metrics={"last": float(array.flat[-1])}))


if __name__ == "__main__":
    main()
