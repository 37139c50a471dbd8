"""The rounds of one run of a recipe with a global model: the ``async for`` that they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from flare_async.errors import QuorumNotReached
from flare_async.jobs.cohort import INLINE_BYTES, JobCohort
from flare_async.jobs.companions import joined, parted
from flare_async.jobs.metrics import MetricMean
from flare_async.jobs.threads import run_to_end
from flare_async.recipes.aggregators import AggregatedUpdates
from flare_async.recipes.algorithm import Algorithm, Averaged, PlayedRound
from flare_async.recipes.finite import check_finite
from flare_async.recipes.stopping import Judge
from flare_async.roles.round import RoundTask, Update
from flare_async.transfer.mean import WeightedMean
from flare_async.transfer.precision import excluded_names
from flare_async.transfer.reducer import Reducer
from flare_async.transfer.repull import RepulledMean
from flare_async.transfer.tensors import TensorSet

if TYPE_CHECKING:
    from flare_async.recipes.model_recipe import ModelRecipe

__all__ = ["ModelRounds"]


class ModelRounds:
    """One run: its cohort, what the algorithm remembers, and who judges the models."""

    def __init__(
        self, recipe: ModelRecipe, cohort: JobCohort, algorithm: Algorithm | None = None
    ) -> None:
        self.recipe = recipe
        self.cohort = cohort
        self.algorithm = recipe.algorithm() if algorithm is None else algorithm
        self.judge = Judge(
            recipe.key_metric,
            lower=recipe.lower_is_better,
            stop_cond=recipe.stop_cond,
            patience=recipe.patience,
        )

    async def averaged(self, number: int, model: TensorSet, *, total: int = 0) -> PlayedRound:
        """Have the sites train on ``model`` and return what the algorithm makes of their mean.

        The new model is kept before the sites hear that their updates were taken. Waits for the
        sites, at most ``round_timeout`` seconds if the recipe has them; cancelling takes the task
        back from everybody and leaves the former model.

        Raises:
            QuorumNotReached: fewer than ``min_clients`` updates came.
        """
        recipe, cohort = self.recipe, self.cohort
        task = cohort.task(
            number,
            total or recipe.num_rounds,
            meta=self.algorithm.meta(number),
            keep_until="committed" if recipe.staging == "repull" else None,
        )
        sites = cohort.choose(number, recipe.clients_per_round, recipe.over_select)
        async with cohort.recording(task, sites, recipe.min_clients) as record:
            result, taken = await self._round(task, sites, model)
            trained, received = self._metrics(taken)
            record.metrics = trained.mean(sites)
            seen = received.mean(sites)
            ends = await self.judge.judged(cohort, model, number, seen)
        await self._return_memory(number, result)
        return PlayedRound(
            model=result, updates=taken, trained=record.metrics, received=seen, ends=ends
        )

    async def evaluated(
        self, model: TensorSet, *, number: int | None = None
    ) -> Mapping[str, float]:
        """Have every site evaluate ``model``, with ``evaluate=`` only; return the mean metrics.

        ``number`` is the round's, by default that of the next one. Waits as ``averaged`` does.

        Raises:
            QuorumNotReached: fewer than ``min_clients`` sites answered.
        """
        recipe, cohort = self.recipe, self.cohort
        if recipe.evaluate is None:
            return {}
        number = len(cohort.history.rounds) if number is None else number
        task = cohort.task(number, recipe.num_rounds, "validate")
        received = MetricMean()
        async with cohort.recording(task, cohort.sites, recipe.min_clients) as record:
            async with cohort.round(
                task, model, quorum=recipe.min_clients, deadline=recipe.round_timeout
            ) as updates:
                async for site, update in updates:
                    received.add(site, *recipe.received(update))
            record.metrics = received.mean(cohort.sites)
            await self.judge.judged(cohort, model, number, record.metrics, last=True)
        return record.metrics

    async def _round(
        self, task: RoundTask, sites: tuple[str, ...], model: TensorSet
    ) -> tuple[TensorSet, list[Update]]:
        recipe, cohort = self.recipe, self.cohort
        sent = joined(model, self.algorithm.companions(task.number))
        taken: list[Update] = []
        with recipe.reducer(sent, sites, cohort.server.context.limits) as reducer:
            async with cohort.round(
                task,
                sent,
                quorum=recipe.min_clients,
                deadline=recipe.round_timeout,
                size=recipe.clients_per_round,
                sites=sites,
                reducer=reducer,
                weigh=recipe.weigh,
            ) as updates:
                async for _, update in updates:
                    taken.append(update)
                mean = await self._mean(reducer, taken, task.number)
                result = await self._step(model, mean, (task, sites, taken))
                del mean  # what is written behind the next round is one model, not two
                await cohort.checkpoint(result, task.number + 1, behind=True)
        return result, taken

    async def _mean(self, reducer: Reducer, updates: list[Update], number: int) -> TensorSet:
        """Return the mean; updates that were lost before they could be added are taken out."""
        if isinstance(reducer, AggregatedUpdates):
            return await self._off_loop(lambda: reducer.aggregated(updates, number), reducer)
        if not isinstance(reducer, WeightedMean | RepulledMean):
            return await self._off_loop(reducer.finish, reducer)
        result = await self.cohort.finish(reducer, updates)
        if isinstance(reducer, RepulledMean) and reducer.lost:
            updates[:] = [update for update in updates if update.site not in reducer.lost]
            least = self.recipe.min_clients
            if len(reducer.sites) < least:
                lost = {site: str(error) for site, error in reducer.lost.items()}
                raise QuorumNotReached(number, len(reducer.sites), least, lost)
        return result

    async def _step(
        self,
        model: TensorSet,
        mean: TensorSet,
        facts: tuple[RoundTask, tuple[str, ...], list[Update]],
    ) -> TensorSet:
        task, sites, updates = facts
        own, answers = parted(mean)
        average = Averaged(
            number=task.number, model=own, companions=answers, sites=sites, updates=updates
        )
        if type(self.algorithm).step is Algorithm.step:
            return self.algorithm.step(model, average)
        excluded = excluded_names(model, self.recipe.exclude_vars)

        def step() -> TensorSet:
            result = self.algorithm.step(model, average)
            check_finite(result, f"the server's step of round {task.number}", excluded)
            return result

        return step() if model.nbytes <= INLINE_BYTES else await run_to_end(step)

    async def _off_loop(self, call: Callable[[], TensorSet], reducer: Reducer) -> TensorSet:
        nbytes: int = getattr(reducer, "nbytes", INLINE_BYTES + 1)
        return call() if nbytes <= INLINE_BYTES else await run_to_end(call)

    def _metrics(self, updates: list[Update]) -> tuple[MetricMean, MetricMean]:
        trained, received = MetricMean(), MetricMean()
        for update in updates:
            trained.add(update.site, *self.recipe.trained(update))
            received.add(update.site, *self.recipe.received(update))
        return trained, received

    async def _return_memory(self, number: int, model: TensorSet) -> None:
        due = (self.recipe.server_memory_gc_rounds, self.recipe.client_memory_gc_rounds)
        await self.cohort.return_memory(number, model.nbytes, *due)
