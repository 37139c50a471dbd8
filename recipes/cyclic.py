"""Cyclic weight transfer: the model goes from site to site.

Chang et al., "Distributed deep learning networks among institutions for medical imaging", JAMIA
2018. In round t the sites are visited in an order k_1, ..., k_n, each starting from what the one
before it made of the model:

    w <- train_{k_1}(w);  w <- train_{k_2}(w);  ...;  w_{t+1} = w

Nothing is averaged, so weights and steps have no part in it. A site that fails is passed over: the
model goes on to the next one as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from flare_async.errors import ConfigError, QuorumNotReached
from flare_async.jobs.cohort import JobCohort
from flare_async.jobs.metrics import MetricMean
from flare_async.jobs.recipe import positive
from flare_async.jobs.recipe_arguments import recipe_arguments
from flare_async.ports import Random
from flare_async.recipes.model_recipe import ModelRecipe
from flare_async.recipes.model_rounds import ModelRounds
from flare_async.recipes.options import refuse_options
from flare_async.roles.messages import Scalar
from flare_async.roles.round import RoundTask, Update
from flare_async.transfer.mean import MeanOptions, WeightedMean
from flare_async.transfer.tensors import TensorSet

__all__ = ["CyclicOrder", "CyclicRecipe"]

UNUSED = ("clients_per_round", "over_select", "exact", "staging", "aggregation_weights")


class CyclicOrder(StrEnum):
    """In which order the sites of a round are visited; NVFlare's names."""

    FIXED = "FIXED"  # that of the cohort
    RANDOM = "RANDOM"  # drawn for each round, by the run's seed
    RANDOM_WITHOUT_SAME_IN_A_ROW = "RANDOM_WITHOUT_SAME_IN_A_ROW"  # nobody twice running


@dataclass(slots=True)
class Way:
    """The model on its way from site to site: nothing else here holds it between two turns."""

    model: TensorSet


@recipe_arguments
@dataclass(kw_only=True, eq=False)
class CyclicRecipe(ModelRecipe):
    """Cyclic weight transfer; ``order`` is a ``CyclicOrder`` or a list of sites.

    With a list only its sites take part. A round needs ``min_clients`` (at least 2) sites that
    train. ``round_timeout`` bounds each site's turn. The model of a round is judged by the metrics
    of the first site that gets it, as soon as it has trained; after the last round all sites
    evaluate. Held at the server are the model that a site works on, what comes back, and, from the
    second turn of a round on, that of the round before, which is the run's until the round ends.

    Raises:
        ConfigError: an argument cannot be used; the error names it.
    """

    name: str = "cyclic"
    min_clients: int = 2
    order: str | Sequence[str] = CyclicOrder.FIXED

    def __post_init__(self) -> None:
        refuse_options(self, UNUSED, "one site trains at a time, and nothing is averaged")
        if positive("min_clients", self.min_clients) < 2:
            raise ConfigError("min_clients", self.min_clients, "a cycle needs at least 2 sites")
        if isinstance(self.order, str):
            if self.order not in list(CyclicOrder):
                known = ", ".join(CyclicOrder)
                raise ConfigError("order", self.order, f"use one of {known}, or a list of sites")
        elif len(set(self.order)) != len(self.order) or len(self.order) < self.min_clients:
            problem = f"needs {self.min_clients} different sites"
            raise ConfigError("order", list(self.order), problem)
        super().__post_init__()

    def check_sites(self, sites: Sequence[str]) -> None:
        """Refuse an order of sites that do not exist, too. Raises ConfigError."""
        super().check_sites(sites)
        unknown = [] if isinstance(self.order, str) else sorted(set(self.order) - set(sites))
        if unknown:
            raise ConfigError("order", unknown[:5], "no such sites", f"known: {sites[0]}, ...")

    def weigh(self, site: str, meta: Mapping[str, Scalar]) -> float:
        """Return 1: there is nothing to weigh against."""
        del site, meta
        return 1.0

    async def rounds(self, play: ModelRounds) -> None:
        """Let the model go round ``num_rounds`` times."""
        way, last = Way(self.initial), ""
        leaving = self.departure(play.cohort)
        for number in range(self.num_rounds):
            if number and await leaving.end():
                self.forget_first()
            order = self.order_of(play.cohort, number, last)
            ends = await self._round(play, way, number, order)
            last = order[-1]
            if ends:
                break
        await play.evaluated(way.model)

    async def _round(
        self, play: ModelRounds, way: Way, number: int, order: tuple[str, ...]
    ) -> bool:
        cohort, ends = play.cohort, False
        task = cohort.task(number, self.num_rounds)
        taken: list[Update] = []
        failures: dict[str, str] = {}
        async with cohort.recording(task, order, self.min_clients) as record:
            for site in order:
                try:
                    following, update = await self._turn(cohort, task, way.model, site)
                except QuorumNotReached as exc:
                    failures |= exc.failures
                    continue
                if not taken:
                    seen = MetricMean()
                    seen.add(site, *self.received(update))
                    ends = await play.judge.judged(cohort, way.model, number, seen.mean(order))
                taken.append(update)
                way.model = following
                del following
            if len(taken) < self.min_clients:
                raise QuorumNotReached(number, len(taken), self.min_clients, failures)
            await cohort.checkpoint(way.model, number + 1, behind=True)
            trained = MetricMean()
            for update in taken:
                trained.add(update.site, update.metrics, 1.0)
            record.metrics = trained.mean(order)
        return ends

    async def _turn(
        self, cohort: JobCohort, task: RoundTask, model: TensorSet, site: str
    ) -> tuple[TensorSet, Update]:
        options = MeanOptions(exclude=self.exclude_vars, max_norm=self.max_norm)
        limits = cohort.server.context.limits
        with WeightedMean(model, order=(site,), limits=limits, options=options) as reducer:
            async with cohort.round(
                task,
                model,
                sites=(site,),
                deadline=self.round_timeout,
                reducer=reducer,
                weigh=self.weigh,
            ) as updates:
                [(_, update)] = [item async for item in updates]
                return await cohort.finish(reducer), update

    def order_of(self, cohort: JobCohort, number: int, last: str) -> tuple[str, ...]:
        """Return the order of a round; ``last`` is the site that was last in the one before."""
        if not isinstance(self.order, str):
            return tuple(site for site in self.order if site in cohort.sites)
        if self.order == CyclicOrder.FIXED:
            return cohort.sites
        avoided = last if self.order == CyclicOrder.RANDOM_WITHOUT_SAME_IN_A_ROW else ""
        return drawn(cohort.sites, cohort.server.context.random, number, avoided)


def drawn(sites: Sequence[str], random: Random, number: int, avoided: str) -> tuple[str, ...]:
    """Return the sites in an order drawn for one round; ``avoided`` does not come first."""
    stream = random.once(f"order of round {number}")
    order = stream.sample(list(sites), len(sites))
    if order[0] == avoided:
        # Any other first site, and the rest as drawn: every order that is allowed is as likely.
        at = stream.randrange(1, len(order))
        order[0], order[at] = order[at], order[0]
    return tuple(order)
