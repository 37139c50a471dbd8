"""A training script that adds one to the model and answers with twice the companion it received."""

import sys

import flare_async.client as flare
from flare_async.model import ParamsType

flare.init()
while flare.is_running():
    model = flare.receive()
    kind = ParamsType(sys.argv[1])
    down = model.meta["DOWN"]["w"]
    given = model.params["w"].copy()
    model.params["w"] += 1
    new = model.params["w"] - given if kind is ParamsType.DIFF else model.params["w"]
    model.meta["UP"] = {"w": 2 * down + model.meta["KEPT"]["k"][0]}
    down[:] = -1.0  # its own copy: nobody else may see it
    flare.send(flare.FLModel(params={"w": new}, params_type=kind, meta=model.meta))
