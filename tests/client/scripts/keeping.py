"""Keeps and changes what it received and sent, as scripts may."""

import numpy as np

import flare_async.client as flare

kept = []
params = {}
while flare.is_running():
    model = flare.receive()
    received = model.params["w"]
    params["w"] = received + 1
    flare.send(flare.FLModel(params=params))
    params["w"][:] = np.nan
    received[:] = np.nan
    kept.append(received)
    assert all(np.isnan(array).all() for array in kept)
