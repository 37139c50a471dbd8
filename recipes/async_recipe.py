"""What recipes without rounds have in common: how many work at a time, and how old updates get."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from flare_async.errors import ConfigError
from flare_async.jobs.filters.demand import with_filters
from flare_async.jobs.memory_demand import ModelDemand
from flare_async.jobs.recipe import positive
from flare_async.model import ParamsType
from flare_async.recipes.async_play import AsyncPlay
from flare_async.recipes.model_recipe import ModelRecipe
from flare_async.recipes.model_rounds import ModelRounds
from flare_async.recipes.options import refuse_options
from flare_async.recipes.replay import Replay
from flare_async.recipes.staleness import Staleness, staleness_of

__all__ = ["AsyncRecipe"]

OF_ROUNDS = ("clients_per_round", "over_select", "exact", "staging")  # say nothing without rounds


@dataclass(kw_only=True, eq=False)
class AsyncRecipe(ModelRecipe):
    """Base of recipes that form a new version of the model from whatever updates come next.

    ``num_rounds`` counts versions. ``concurrency`` sites (default: all) work at a time; a site that
    is done begins again from the newest version. ``min_clients`` is how many sites must be left
    that do not fail again and again. ``max_staleness`` takes tasks back whose version is older than
    that: so at most ``max_staleness + 1`` versions of the model live, and at most
    ``concurrency + 1``. ``round_timeout`` bounds one task. At a site ``round_number`` counts its
    own tasks, and ``meta["model_version"]`` is the version that it received.

    Which updates came first depends on the machine. The run folder's ``versions.jsonl`` has the
    order; ``replay`` (such a file, or the folder of a run) forms the same versions of the same
    updates again: with sites that draw from ``site.rng`` only, to the same bits.

    Raises:
        ConfigError: an argument cannot be used; the error names it.
    """

    concurrency: int | None = None
    max_staleness: int | None = None
    staleness: str | Staleness = "constant"
    replay: str | Path | None = None

    kind: ClassVar[ParamsType] = ParamsType.FULL  # what sites send

    def __post_init__(self) -> None:
        refuse_options(self, OF_ROUNDS, "there are no rounds")
        self.age_factor = staleness_of(self.staleness)
        if self.concurrency is not None:
            positive("concurrency", self.concurrency)
        most = self.max_staleness
        if most is not None and (type(most) is not int or most < 0):
            raise ConfigError("max_staleness", most, "an integer of at least 0 is needed")
        self.recorded = None if self.replay is None else Replay.read(self.replay)
        if self.recorded is not None and len(self.recorded.versions) < self.num_rounds:
            problem = f"has {len(self.recorded.versions)} versions, num_rounds={self.num_rounds}"
            raise ConfigError("replay", str(self.replay), problem)
        self._force_kind()
        super().__post_init__()

    @abstractmethod
    def updates_needed(self) -> int:
        """Return how many updates make a version."""

    @abstractmethod
    def factors(self, weights: Sequence[float], ages: Sequence[int]) -> tuple[float, list[float]]:
        """Return what the model and each update are multiplied with, to be added.

        ``ages`` are how many versions were formed since an update's own, at least 0.
        """

    def check_sites(self, sites: Sequence[str]) -> None:
        """Refuse a replay with other sites, too. Raises ConfigError."""
        super().check_sites(sites)
        parts = [] if self.recorded is None else self.recorded.versions
        unknown = sorted({part.site for version in parts for part in version} - set(sites))
        if unknown:
            raise ConfigError("replay", unknown[:5], "no such sites", f"known: {sites[0]}, ...")

    def demand(self) -> ModelDemand:
        """Return the live versions, and the updates that wait for the next one."""
        bounds = [self.num_rounds]
        bounds += [] if self.max_staleness is None else [self.max_staleness + 1]
        bounds += [] if self.concurrency is None else [self.concurrency + 1]
        mean = ModelDemand.of_mean(
            self.initial, accumulator=self.accumulator, exclude=self.exclude_vars
        )
        share = mean.accumulator * mean.largest // max(1, mean.model)  # a tensor at a time
        made = dataclasses.replace(
            mean,
            accumulator=mean.model,
            narrowed=share,
            versions=min(bounds),
            held=self.concurrency,
            buffered=self.updates_needed(),
        )
        return with_filters(made, self.filters)

    async def rounds(self, play: ModelRounds) -> None:
        """Form the versions, and have the last one evaluated."""
        await play.evaluated(await AsyncPlay(self, play).run())

    def _force_kind(self) -> None:
        named: Mapping[str, Mapping[str, object]] = self.per_site_config or {}
        for config in named.values():
            asked = config.get("params_transfer_type", self.kind)
            if asked != self.kind:
                problem = f"the updates of this recipe are {self.kind}"
                raise ConfigError("params_transfer_type", asked, problem, "leave it out")
        self.params_transfer_type = self.kind
