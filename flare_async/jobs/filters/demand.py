"""What the filters of a recipe hold beside a run without them, for the memory equation."""

from __future__ import annotations

import math
from dataclasses import replace

from flare_async.jobs.filters.chains import FilterChains
from flare_async.jobs.memory_demand import ModelDemand

__all__ = ["with_filters"]


def with_filters(demand: ModelDemand, chains: FilterChains) -> ModelDemand:
    """Return a demand with what filters hold: at most, as if each made tensors as large as it got.

    What the server's output filters make stands beside the model, and the model as it came beside
    what a site's input filters make. Filters work one after the other, so only the one that holds
    most counts.
    """
    copies = {"server": 0.0, "client": 0.0}
    most = dict(copies)
    for place, entry in chains.added():
        side = place.split("_", maxsplit=1)[0]
        if place in {"server_output", "client_input"}:
            copies[side] = 1.0
        most[side] = max(most[side], entry.filter.holds)
    server, slot = (math.ceil((copies[one] + most[one]) * demand.model) for one in copies)
    return replace(demand, filters=server, slot_filters=slot)
