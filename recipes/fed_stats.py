"""Federated statistics: what the data of all sites are like, without moving them.

Three tasks at most. First each site tells its features. Then it tells count, failures, sum, mean,
standard deviation, minimum, maximum and a digest for quantiles: what needs nothing of other sites.
With the mean m of all n values and their range it then tells its part of the variance,
sum((x - m)**2) / (n - 1), and its histogram. ``statistics.pooled`` has the arithmetic. Quantiles
are those of merged t-digests (Dunning and Ertl, arXiv:1902.04023). Cleansers decide what leaves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial

import numpy as np

from flare_async.errors import ConfigError, StartFailed, TensorFormatError, UpdateRefused
from flare_async.jobs.cohort import JobCohort
from flare_async.jobs.filters.kept import KeptUpdates
from flare_async.jobs.memory_demand import ModelDemand
from flare_async.jobs.recipe import Recipe, positive
from flare_async.jobs.recipe_arguments import recipe_arguments
from flare_async.jobs.work import Work
from flare_async.recipes.statistics.cleansers import Privacy, check_range
from flare_async.recipes.statistics.configs import StatisticConfigs, Wanted
from flare_async.recipes.statistics.demand import demand_of_statistics
from flare_async.recipes.statistics.digest import check_library
from flare_async.recipes.statistics.generator import Statistics
from flare_async.recipes.statistics.output import Output
from flare_async.recipes.statistics.plan import Cell, Common, Plan, features_from_bytes
from flare_async.recipes.statistics.pooled import Pooled, cells_of
from flare_async.recipes.statistics.site import FEATURES, answering
from flare_async.recipes.statistics.source import check_methods
from flare_async.recipes.statistics.tables import Reports, Tables
from flare_async.transfer.tensors import TensorSet

__all__ = ["FedStatsRecipe"]

Look = Callable[[str, Mapping[str, np.ndarray]], Iterator[None]]


@recipe_arguments
@dataclass(eq=False)
class FedStatsRecipe(Recipe):
    """Statistics of each site in ``sites`` and of all together, as JSON and as an HTML page.

    ``statistic_configs`` says which, for instance ``{"count": {}, "histogram": {"*": {"bins":
    20}}, "quantile": {"Age": [0.5]}}``; ``stats_generator`` is an instance of the user's subclass
    of ``Statistics``, made anew at every site with the same arguments.

    Raises:
        ConfigError: an argument cannot be used; the error names it.
    """

    name: str
    stats_output_path: str  # below the run folder; the page is beside it
    sites: Sequence[str]
    statistic_configs: StatisticConfigs
    stats_generator: Statistics
    min_count: int = 10  # values without which nothing leaves a site
    min_noise_level: float = 0.1  # of the noise on minimum and maximum, a share of their size
    max_noise_level: float = 0.3
    max_bins_percent: float = 10  # bins of a histogram, of the number of values
    _: KW_ONLY
    min_clients: int = 0  # sites that are needed; 0 is all
    precision: int | None = 4  # decimal places of what is written; None: all
    max_centroids: int = 200  # of a digest
    max_feature_bytes: int = 65_536  # room for the names of a site's features
    round_timeout: float | None = None  # seconds
    reproducible_noise: bool = False  # from the run's seed, for simulations
    num_rounds: int = field(init=False, default=3)

    def __post_init__(self) -> None:
        self._wanted = Wanted.of(self.statistic_configs)
        self.num_rounds = 3 if self._wanted.needs_second else 2
        self._check_sites()
        self.check_basics()
        self._output = Output(self.stats_output_path, self.precision, self.max_centroids)
        self._privacy = Privacy(
            self.min_count,
            self.min_noise_level,
            self.max_noise_level,
            self.max_bins_percent,
            self.max_centroids,
            self.reproducible_noise,
        )
        self._train = answering(self.stats_generator, self.statistic_configs, self._privacy)
        check_methods(self.stats_generator, self._wanted.methods)
        if self._wanted.percents:
            check_library()
        positive("max_feature_bytes", self.max_feature_bytes)
        if self.round_timeout is not None:
            check_range("round_timeout", self.round_timeout, 1e-3, math.inf)

    def _check_sites(self) -> None:
        if isinstance(self.sites, str) or not self.sites or len(set(self.sites)) < len(self.sites):
            raise ConfigError("sites", self.sites, "a list of different names is needed")
        self.min_clients = self.min_clients or len(self.sites)
        if positive("min_clients", self.min_clients) > (count := len(self.sites)):
            raise ConfigError("min_clients", self.min_clients, f"exceeds the {count} sites")

    def check_sites(self, sites: Sequence[str]) -> None:
        """Refuse sites that do not exist. Raises ConfigError."""
        unknown = sorted(set(self.sites) - set(sites))
        if unknown:
            raise ConfigError("sites", unknown[:5], "no such sites", f"known: {sites[0]}, ...")

    def work(self, site: str) -> Work:
        """Return the function that answers with the generator."""
        return Work(self._train)

    def demand(self) -> ModelDemand:
        """Return room for as many features as ``max_feature_bytes`` can name."""
        room = (self.max_feature_bytes, self.max_centroids)
        return demand_of_statistics(self._wanted, *room, self.filters)

    async def coordinate(self, cohort: JobCohort) -> None:
        """Ask the sites and write what they say; a site that is lost is not asked again."""
        sites = tuple(site for site in cohort.sites if site in set(self.sites))
        if len(sites) < self.min_clients:
            raise StartFailed(self.min_clients, sites, sorted(set(self.sites) - set(sites)))
        sites, cells = await self._cells(cohort, sites)
        plan = Plan(1, cells, (Common(),) * len(cells))
        pooled = Pooled(self._wanted, cells, await self._reports(cohort, sites, plan))
        if self._wanted.needs_second:
            plan = pooled.plan()
            told = await self._reports(cohort, tuple(pooled.first), plan)
            common = dict(zip(cells, plan.common, strict=True))
            pooled = Pooled(self._wanted, cells, pooled.first, told, common)
        await self._output.write(cohort.run.folder, pooled, self.name)

    async def _cells(
        self, cohort: JobCohort, sites: Sequence[str]
    ) -> tuple[tuple[str, ...], tuple[Cell, ...]]:
        """Return who told its features, and those of all; what are none are refused."""
        found = {}

        def look(site: str, told: Mapping[str, np.ndarray]) -> Iterator[None]:
            found[site] = features_from_bytes(told[FEATURES])
            yield

        room = {FEATURES: np.zeros(self.max_feature_bytes, np.uint8)}
        arrived = await self._ask(cohort, 0, sites, room, look)
        cells = cells_of(found[site] for site in arrived)
        if not cells:
            name = type(self.stats_generator).__name__
            raise ConfigError("stats_generator", name, "no site has a feature of numbers")
        return arrived, cells

    async def _reports(
        self, cohort: JobCohort, sites: Sequence[str], plan: Plan
    ) -> dict[str, Reports]:
        """Return what the sites say in one step; one that says what cannot be is refused."""
        tables = Tables(plan, self._wanted, self.max_centroids)
        reports: dict[str, Reports] = {}

        def look(site: str, told: Mapping[str, np.ndarray]) -> Iterator[None]:
            reports[site] = {}
            for cell, report in tables.rows(told):
                reports[site][cell] = report
                yield

        arrived = await self._ask(cohort, plan.step, sites, tables.empty(), look)
        return {site: reports[site] for site in arrived}

    async def _ask(
        self,
        cohort: JobCohort,
        number: int,
        sites: Sequence[str],
        tensors: Mapping[str, np.ndarray],
        look: Look,
    ) -> tuple[str, ...]:
        """Return who has answered, in the order of the cohort; nothing of an answer is kept."""
        task, sent = cohort.task(number, self.num_rounds), TensorSet.from_params(tensors)
        memory_bytes = cohort.server.context.limits.memory_bytes
        kept = KeptUpdates(sent, memory_bytes, partial(looked_at, look))
        async with (
            cohort.recording(task, sites, self.min_clients),
            cohort.round(
                task,
                sent,
                quorum=self.min_clients,
                deadline=self.round_timeout,
                sites=sites,
                reducer=kept,
            ) as updates,
        ):
            arrived = {site async for site, _ in updates}
        return tuple(site for site in sites if site in arrived)


def looked_at(look: Look, site: str, told: TensorSet) -> Iterator[None]:
    """Look at an answer before its site is admitted. Raises UpdateRefused."""
    try:
        yield from look(site, told.numpy())
    except TensorFormatError as exc:
        raise UpdateRefused(site, str(exc)) from exc
