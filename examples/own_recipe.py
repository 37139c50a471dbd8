"""A recipe of one's own: the median of each weight, which a single bad site cannot move far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from flare_async import FLModel, Run, SimEnv
from flare_async.jobs.cohort import JobCohort
from flare_async.jobs.recipe import Recipe
from flare_async.jobs.site import Site
from flare_async.jobs.work import TrainFunction, Work
from flare_async.transfer import TensorSet

__all__ = ["MedianRecipe", "main", "recipe"]


@dataclass(kw_only=True, eq=False)
class MedianRecipe(Recipe):
    """Coordinate-wise median (Yin et al., ICML 2018, algorithm 1, option I)."""

    min_clients: int
    model: Mapping[str, np.ndarray]
    train: TrainFunction
    num_rounds: int = 3
    name: str = "median"

    def __post_init__(self) -> None:
        self.check_basics()

    def work(self, site: str) -> Work:
        """Every site does the same."""
        return Work(self.train)

    async def coordinate(self, cohort: JobCohort) -> None:
        """Hold all updates of a round, then take the median of each element."""
        model = TensorSet.from_params(self.model).copy()
        for number in range(self.num_rounds):
            model = await self._round(cohort, model, number)

    async def _round(self, cohort: JobCohort, model: TensorSet, number: int) -> TensorSet:
        task = cohort.task(number, self.num_rounds)
        arrived = {}
        # Without reducer= an update brings its tensors, and the median needs all of them at once.
        async with (
            cohort.recording(task, cohort.sites, self.min_clients),
            cohort.round(task, model, quorum=self.min_clients) as updates,
        ):
            async for site, update in updates:
                arrived[site] = update.tensors.numpy()
            model = median(model, [arrived[site] for site in cohort.sites if site in arrived])
            await cohort.checkpoint(model, number + 1)  # before leaving says "committed"
        return model


def median(model: TensorSet, updates: list[dict[str, np.ndarray]]) -> TensorSet:
    """Return the median of each element."""
    return TensorSet.from_params(
        {name: np.median([update[name] for update in updates], axis=0) for name in model}
    )


def train(model: FLModel, site: Site) -> FLModel:
    """Move halfway to the target; site-3 sends nonsense."""
    weights = model.params["weights"]
    target = 1e6 if site.name == "site-3" else site.rng.normal(loc=1.0, scale=0.1, size=4)
    return FLModel(params={"weights": weights + 0.5 * (target - weights)})


def recipe() -> MedianRecipe:
    """Return the job: for ``hunt`` and ``what-if``, too."""
    return MedianRecipe(min_clients=5, model={"weights": np.zeros(4)}, train=train, num_rounds=10)


def main() -> Run:
    """Run ten rounds with five sites, one of which is broken."""
    run = recipe().execute(SimEnv(num_clients=5, seed=7))
    print(run.explain())
    print("weights:", run.model.numpy()["weights"].round(3))
    return run


if __name__ == "__main__":
    main()
