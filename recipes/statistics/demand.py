"""What federated statistics need at the server: room for every feature that a site may name.

How many features there are is known when sites have told them. Their names have room for
``max_feature_bytes``, so at most as many are possible as short names fit into that.
"""

from __future__ import annotations

from typing import Final

from flare_async.jobs.filters.chains import FilterChains
from flare_async.jobs.filters.demand import with_filters
from flare_async.jobs.memory_demand import ModelDemand
from flare_async.recipes.statistics.configs import Wanted

__all__ = ["demand_of_statistics"]

SHORTEST: Final = 10  # bytes of a feature with a name of one letter: ["a", 1] and what parts it
PLAN: Final = 128  # of a cell in the plan: four numbers, beside the names
VALUE, BIN, CENTROID = 9, 8, 16  # bytes of one on its way
# Bytes of one as the server keeps it until the end, with what is made of it.
KEPT_CELL, KEPT_VALUE, KEPT_BIN, KEPT_CENTROID = 1024, 128, 64, 192


def demand_of_statistics(
    wanted: Wanted, feature_bytes: int, centroids: int, filters: FilterChains
) -> ModelDemand:
    """Return what there is room for: the largest answer on its way, and all that sites have said.

    ``centroids`` are those of a digest.
    """
    cells = feature_bytes // SHORTEST
    values, later = len(wanted.first), len(wanted.second)
    centroids = centroids if wanted.percents else 0
    bins = max((one.count for one in wanted.histograms.values()), default=0)
    plan = 3 * feature_bytes + cells * PLAN  # names of data sets and signs as JSON has them
    first = plan + cells * (1 + VALUE * values + CENTROID * centroids)
    second = plan + cells * (2 + VALUE * later + BIN * bins) if wanted.needs_second else 0
    room = max(first, second)
    kept = KEPT_VALUE * (values + later) + KEPT_BIN * bins + KEPT_CENTROID * centroids
    largest = max(plan, cells * 8 * max(values, later, centroids, bins))
    answers = cells * (KEPT_CELL + kept)
    plain = ModelDemand(model=room, accumulator=0, largest=largest, answers=answers)
    return with_filters(plain, filters)
