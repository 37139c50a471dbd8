"""A script that trains in the pages of the model that it received, as ``partial_fit`` does."""

from __future__ import annotations

import numpy as np

import flare_async.client as flare
from flare_async.client import FLModel

__all__ = []

flare.init()
site = int(flare.get_site_name().removeprefix("site-"))
while flare.is_running():
    model = flare.receive()
    for value in model.params.values():
        value[...] += 0.01 * site * np.arange(1, 1 + value.size).reshape(value.shape)
    flare.send(FLModel(params=model.params, meta={"NUM_STEPS_CURRENT_ROUND": site}))
