"""Train functions for tests of algorithms; other processes load them by this file's path."""

from __future__ import annotations

import numpy as np

from flare_async import FLModel
from flare_async.client.scaffold_control import SiteControl
from tests.references.regression import RATE, STEPS, descend, gradient, loss

CONTROL = "scaffold_c_global"


def answer(model, weights, **meta):
    """Return an update in the model's own type."""
    params = dict(model.params)
    params["w"] = np.asarray(weights).astype(params["w"].dtype)
    return FLModel(params=params, meta=meta)


def average(model, site):
    """Descend from the model; weighs one more than the site's index."""
    return answer(
        model, descend(model.params["w"], site.index), NUM_STEPS_CURRENT_ROUND=1 + site.index
    )


def near(model, site):
    """Descend with the proximal term of FedProx."""
    first, mu = model.params["w"].astype(np.float64), model.meta["fedprox_mu"]
    return answer(model, descend(first, site.index, extra=lambda v: mu * (v - first)))


def fair(model, site):
    """Descend, and tell the loss of the received model."""
    weights = model.params["w"].astype(np.float64)
    return answer(model, descend(weights, site.index), loss=loss(weights, site.index))


def controlled(model, site):
    """Descend with SCAFFOLD's controls."""
    x, c = model.params["w"].astype(np.float64), model.meta[CONTROL]["w"].astype(np.float64)
    control = site.state.setdefault("control", SiteControl({"w": np.zeros_like(x)}))
    own, y = control.begin(model, site.name)["w"], x.copy()
    for _ in range(STEPS):
        y -= RATE * (gradient(y, site.index) - own + c)
    new = own - c + (x - y) / (STEPS * RATE)
    control.renew({"w": new})
    change = (new - own).astype(model.params["w"].dtype)
    return answer(model, y, scaffold_c_diff={"w": change})


def personal(model, site):
    """Descend from the model, and from the site's own one as Ditto has it."""
    first, strength = model.params["w"].astype(np.float64), model.meta["ditto_lambda"]
    own = site.state.get("own", first)
    own = descend(own, site.index, extra=lambda v: strength * (v - first))
    site.state["own"] = own
    result = answer(model, descend(first, site.index))
    result.metrics = {f"own_{at}": float(value) for at, value in enumerate(own)}
    return result
