"""A script as its users write it."""

import sys

import numpy as np

import flare_async.client as flare

flare.init()
while flare.is_running():
    model = flare.receive()
    if flare.is_evaluate():
        flare.send(flare.FLModel(metrics={"mean": float(np.mean(model.params["w"]))}))
        continue
    flare.log("loss", np.float32(0.25), "SCALAR")
    params = {"w": model.params["w"] + int(sys.argv[1])}
    flare.send(flare.FLModel(params=params, metrics={"accuracy": np.float32(0.5)}))
