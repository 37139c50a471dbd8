"""FedBuff, FedAsync and cyclic transfer from their papers, in float64 NumPy; nothing else."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["cycle", "fed_async", "fed_buff"]


def fed_buff(first, versions, change, *, rate=1.0, age=lambda s: 1 / math.sqrt(1 + s)):
    """Return all versions of Nguyen et al., algorithm 1.

    ``versions`` lists for each the (site, task, base) of its buffer, ``change(site, task, model)``
    is what local training adds.
    """
    models = [np.asarray(first, np.float64)]
    for buffer in versions:
        now = len(models) - 1
        total = np.zeros_like(models[0])
        for site, task, base in buffer:
            total += age(now - base) * change(site, task, models[base])
        models.append(models[-1] + rate * total / len(buffer))
    return models


def fed_async(first, versions, change, *, alpha=0.6, age=lambda s: (1 + s) ** -0.5):
    """Return all versions of Xie et al., algorithm 1."""
    models = [np.asarray(first, np.float64)]
    for [(site, task, base)] in versions:
        mixing = alpha * age(len(models) - 1 - base)
        local = models[base] + change(site, task, models[base])
        models.append((1 - mixing) * models[-1] + mixing * local)
    return models


def cycle(first, orders, change):
    """Return the model after it has gone round by each of the orders."""
    model = np.asarray(first, np.float64)
    for number, order in enumerate(orders):
        for site in order:
            model = model + change(site, number, model)
    return model
