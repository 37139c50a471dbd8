"""A recipe of one's own: sites count by how well the model fits them, not by their data."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from flare_async.jobs.cohort import JobCohort
from flare_async.jobs.recipe import Recipe
from flare_async.jobs.work import TrainFunction, Work
from flare_async.transfer import TensorSet, WeightedMean


@dataclass(kw_only=True, eq=False)
class FitRecipe(Recipe):
    """The mean of the updates, each with the weight 1 / (loss of the received model)."""

    model: Mapping[str, np.ndarray]
    train: TrainFunction
    min_clients: int
    num_rounds: int = 3
    name: str = "custom-recipe"

    def work(self, site: str) -> Work:
        return Work(self.train)

    async def coordinate(self, cohort: JobCohort) -> None:
        model = TensorSet.from_params(self.model).copy()
        for number in range(self.num_rounds):
            task = cohort.task(number, self.num_rounds)
            async with cohort.recording(task, cohort.sites, self.min_clients) as record:
                with WeightedMean(model, order=cohort.sites) as mean:
                    options = {"quorum": self.min_clients, "deadline": 60.0, "reducer": mean}
                    fit = lambda site, meta: 1 / meta["loss"]  # noqa: E731
                    async with cohort.round(task, model, weigh=fit, **options) as updates:
                        losses = [update.metrics["loss"] async for _, update in updates]
                        model = await cohort.finish(mean)
                        await cohort.checkpoint(model, number + 1)  # then sites may forget
                record.metrics = {"loss": float(np.mean(losses))}
