"""The script of a site: trains, evaluates and submits its model, as it is told."""

from __future__ import annotations

import numpy as np

import flare_async.client as flare
from flare_async.client import FLModel, NPConstants

__all__ = ["main"]

KEY = NPConstants.NUMPY_KEY


def main() -> None:
    """Take part in the job."""
    flare.init()
    number = float(flare.get_site_name().rpartition("-")[2])
    while flare.is_running():
        model = flare.receive()
        if model is None or model.params is None:
            break  # the job has ended
        received = np.asarray(model.params[KEY])
        if flare.is_train():
            metrics = {"weight_mean": received.mean()}
            flare.send(FLModel(params={KEY: received + number}, metrics=metrics))
        elif flare.is_evaluate():
            flare.send(FLModel(metrics={"weight_mean": received.mean(), "data": number}))
        elif flare.is_submit_model():
            flare.send(FLModel(params={KEY: np.full_like(received, number)}))


if __name__ == "__main__":
    main()
