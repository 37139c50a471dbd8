"""What the sites of ``bench.recipe_memory`` answer: something of the right shape, at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import anyio
import numpy as np

from flare_async import FLModel
from flare_async.client.scaffold import AlgorithmConstants
from flare_async.jobs.site import Site
from flare_async.recipes.statistics import DFStatisticsCore

if TYPE_CHECKING:
    import numpy.typing as npt

    Arrays = dict[str, npt.NDArray[np.floating]]

__all__ = [
    "Columns",
    "Laggard",
    "centres_of",
    "judged",
    "moved",
    "moved_beside",
    "sums_of",
    "supports_of",
]

ROWS = 2_000  # of a site's table


def moved(model: FLModel, site: Site) -> FLModel:
    """Return the received model plus one, with whatever some algorithm wants beside it."""
    del site
    params = cast("Arrays", model.params)
    for name in params:
        params[name] += 1
    meta: dict[str, object] = {"NUM_STEPS_CURRENT_ROUND": 1, "loss": 1.0}
    control = model.meta.get(AlgorithmConstants.SCAFFOLD_CTRL_GLOBAL)
    if isinstance(control, dict):
        meta[AlgorithmConstants.SCAFFOLD_CTRL_DIFF] = {
            name: np.ones_like(array) for name, array in control.items()
        }
    return FLModel(params=dict(params), meta=meta)


def moved_beside(arrays: Arrays, model: FLModel, site: Site) -> FLModel:
    """Do what ``moved`` does, with arrays that somebody keeps."""
    del arrays
    return moved(model, site)


def judged(model: FLModel, site: Site) -> dict[str, float]:
    """Return metrics of a model: the later the version, the better."""
    del site
    params = cast("Arrays", model.params)
    return {"accuracy": float(next(iter(params.values())).flat[-1]), "AUC": 0.5}


def sums_of(model: FLModel, site: Site) -> FLModel:
    """Return a gradient and a Hessian."""
    size = cast("Arrays", model.params)["numpy_key"].size
    sums = {"gradient": np.full((size, 1), 1.0 + site.index), "hessian": np.eye(size)}
    return FLModel(params=dict(sums), meta={"NUM_STEPS_CURRENT_ROUND": 1})


def centres_of(model: FLModel, site: Site, *, values: int) -> FLModel:
    """Return eight centres, and from round 1 on their counts."""
    draw = np.random.default_rng(site.index)
    params: dict[str, object] = {"center": draw.random((8, max(1, values // 8)))}
    if "center" in (model.params or {}):
        params["count"] = np.ones(8)
    return FLModel(params=params, meta={"NUM_STEPS_CURRENT_ROUND": 1})


def supports_of(model: FLModel, site: Site, *, features: int) -> FLModel:
    """Return a hundred support vectors of two classes."""
    del model
    draw = np.random.default_rng(site.index)
    samples, labels = draw.random((100, features)), np.arange(100) % 2
    return FLModel(params={"support_x": samples, "support_y": labels.astype(np.float64)})


class Laggard:
    """Sites of which the first keeps a version until there are ``behind`` newer ones.

    One object serves all sites of a process, which run on one loop.
    """

    def __init__(self, behind: int) -> None:
        self._behind = behind
        self._newest = 0
        self._newer = anyio.Event()

    async def train(self, model: FLModel, site: Site) -> FLModel:
        """Train; the first site waits for the others, without bound, and only once."""
        version = cast("int", model.meta["model_version"])
        if version > self._newest:
            self._newest = version
            self._newer.set()
            self._newer = anyio.Event()
        if site.index == 0 and site.round_number == 1:
            while self._newest < version + self._behind:
                await self._newer.wait()
        return moved(model, site)


class Columns(DFStatisticsCore):
    """A table of normal draws."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def initialize(self, site: Site) -> None:
        """Draw the site's rows."""
        import pandas as pd

        draw = np.random.default_rng(site.index)
        columns = [f"feature-{number}" for number in range(self.width)]
        self.data = {"train": pd.DataFrame(draw.normal(size=(ROWS, self.width)), columns=columns)}
