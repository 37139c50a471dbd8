"""A script that trains, evaluates and submits its model, as flare's functions tell it to."""

from __future__ import annotations

import numpy as np

import flare_async.client as flare
from flare_async.client import FLModel, NPConstants

KEY = NPConstants.NUMPY_KEY


def main() -> None:
    """Take part in a job."""
    flare.init()
    own = float(flare.system_info()["site_name"].split("-")[1])
    starts = 0
    while flare.is_running():
        model = flare.receive()
        w = model.params[KEY]
        if flare.is_submit_model():
            flare.send(FLModel(params={KEY: np.full_like(w, own)}))
        elif flare.is_evaluate():
            flare.send(FLModel(metrics={"mean": float(w.mean()), "own": own, "trained": starts}))
        else:
            starts += 1
            flare.send(FLModel(params={KEY: w + np.float32(own)}, metrics={"mean": 0.0}))


if __name__ == "__main__":
    main()
