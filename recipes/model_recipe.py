"""What recipes with one global model have in common: what they override, and their rounds."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from flare_async.errors import UpdateRefused
from flare_async.jobs.cohort import JobCohort
from flare_async.jobs.companions import refuse_reserved, sparing
from flare_async.jobs.filters.demand import with_filters
from flare_async.jobs.memory_demand import ModelDemand
from flare_async.jobs.models import load_model
from flare_async.jobs.work import Framework, Work
from flare_async.limits import Limits
from flare_async.model import MetaKey
from flare_async.recipes.algorithm import Algorithm
from flare_async.recipes.first_model import Departure, FirstArrays, FirstModel
from flare_async.recipes.model_arguments import ModelArguments
from flare_async.recipes.model_checks import check_excluded
from flare_async.recipes.model_rounds import ModelRounds
from flare_async.recipes.stopping import Judge
from flare_async.roles.messages import Scalar
from flare_async.roles.round import Update
from flare_async.transfer.mean import MeanOptions, WeightedMean
from flare_async.transfer.reducer import Reducer
from flare_async.transfer.repull import RepulledMean
from flare_async.transfer.tensors import TensorSet

__all__ = ["ModelRecipe"]


@dataclass(kw_only=True, eq=False)
class ModelRecipe(ModelArguments):
    """Base of recipes that send one model to the sites and make the next of what comes back.

    Its arguments are those of ``ModelArguments``.

    A recipe overrides ``algorithm`` (what the server makes of each mean), ``reducer`` (how updates
    become one), or ``rounds`` (everything).

    Raises:
        ConfigError: an argument cannot be used; the error names it.
    """

    def __post_init__(self) -> None:
        self.check_basics()
        self.check_scripts()
        self.check_arguments()
        framework: Framework
        first, framework = self.first_model()
        self._first = FirstModel(first)
        self._kind: Framework = framework
        refuse_reserved("model", self.initial)
        self._let_go_of_arrays()
        for site in self.sites_with_work:
            self.work(site)
        Judge(self.key_metric, stop_cond=self.stop_cond, patience=self.patience)
        check_excluded(self.exclude_vars, self.initial)
        self.reducer(self.initial, ("any",))

    # What a recipe may override

    def first_model(self) -> tuple[TensorSet, Framework]:
        """Return the first model and the framework that it is made for.

        Raises:
            ConfigError: there is none, or it is none.
        """
        return load_model(self.model, self.initial_ckpt, layered=self.has_layers)

    def algorithm(self) -> Algorithm:
        """Return what a run does beyond averaging: a new object for each, with the run's state."""
        return Algorithm()

    def reducer(
        self, model: TensorSet, sites: tuple[str, ...], limits: Limits | None = None
    ) -> AbstractContextManager[Reducer]:
        """Return what makes one update of those of ``sites``, in their order.

        ``model`` is what is sent, companions included.

        Raises:
            ConfigError: an option cannot be used with this model.
        """
        options = self.mean_options(model)
        if self.staging == "repull":
            return nullcontext(RepulledMean(model, order=sites, limits=limits, options=options))
        return WeightedMean(model, order=sites, limits=limits, options=options)

    def mean_options(self, model: TensorSet) -> MeanOptions:
        """Return how ``model``, as it is sent, is to be averaged. Raises ConfigError."""
        return MeanOptions(
            accumulator=self.accumulator,
            exclude=sparing(self.exclude_vars, model),
            max_norm=self.max_norm,
            exact=self.exact,
            scale_bits=self.scale_bits,
        )

    def weigh(self, site: str, meta: Mapping[str, Scalar]) -> float:
        """Return an update's weight: the steps that it took, times the site's own factor.

        Raises:
            UpdateRefused: the steps are no number.
        """
        steps = meta.get(MetaKey.NUM_STEPS_CURRENT_ROUND, 1.0)
        if type(steps) is bool or not isinstance(steps, (int, float)):
            raise UpdateRefused(site, f"NUM_STEPS_CURRENT_ROUND is {steps!r:.40}, not a number")
        return steps * (self.aggregation_weights or {}).get(site, 1.0)

    def trained(self, update: Update) -> tuple[Mapping[str, float], float]:
        """Return the metrics of training, and their weight: that of the update."""
        return update.metrics, update.weight

    def received(self, update: Update) -> tuple[Mapping[str, float], float]:
        """Return the metrics of the model that a site received, and their weight."""
        if self.evaluate is None:
            return self.trained(update)
        metrics = dict(update.received)
        return metrics, metrics.pop("num_examples", 1.0)

    async def rounds(self, play: ModelRounds) -> None:
        """Run the rounds: each site's update, their mean, what the algorithm makes of it."""
        model, leaving = self.initial, self.departure(play.cohort)
        for number in range(self.num_rounds):
            if number and await leaving.end():
                self.forget_first()
            played = await play.averaged(number, model)
            model, ends = played.model, played.ends
            del played  # what the sites brought need not wait for the next round's end
            if ends:
                break
        await play.evaluated(model)

    def departure(self, cohort: JobCohort) -> Departure:
        """Return how the first model leaves memory; ``rounds`` awaits its ``end`` in round 1.

        It is being written meanwhile, where there are such rounds.
        """
        leaving = Departure(self._first, cohort)
        if self.num_rounds > 1:
            leaving.begin(self.initial)
        return leaving

    # Recipe

    @cached_property
    def initial(self) -> TensorSet:
        """The first model; read again where a run has put it into a file. Raises TransferError."""
        return self._first.read()

    async def coordinate(self, cohort: JobCohort) -> None:
        """Run the rounds; the best model is the one that the sites evaluated as such."""
        await cohort.checkpoint(self.initial, 0, behind=True)
        try:
            await self.rounds(ModelRounds(self, cohort))
        finally:
            await cohort.settle()

    def demand(self) -> ModelDemand | None:
        """Return the current model from the second round on, and the mean; the first is here."""
        mean = ModelDemand.of_mean(
            self.initial,
            accumulator=self.accumulator,
            exclude=self.exclude_vars,
            versions=min(1, self.num_rounds - 1),
            staging=self.staging,
            exact=self.exact,
        )
        return with_filters(mean, self.filters)

    @property
    def model_framework(self) -> Framework:
        """The framework that the first model is made for."""
        return self._kind

    @property
    def torch_filename(self) -> str | None:
        """``save_filename``, for a PyTorch model."""
        return self.save_filename if self._kind == "torch" else None

    def work(self, site: str) -> Work:
        """Return the functions, or the script, with the site's own options."""
        own = self.site_work(site)
        return Work(
            train=self.train if own.script is None else None,
            framework=own.framework or self._kind,
            evaluate=self.evaluate,
            config=own.config,
            transfer=own.transfer,
            memory_gc_rounds=self.client_memory_gc_rounds,
            script=own.script,
        )

    def forget_first(self) -> None:
        """Keep the first model in its file only, until ``initial`` is asked for."""
        if self._first.let_go():
            vars(self).pop("initial", None)

    def _let_go_of_arrays(self) -> None:
        # ``initial`` is a copy; the caller's own arrays need not live as long as the recipe.
        given = self.model
        arrays = given.values() if isinstance(given, Mapping) else [given]
        if all(isinstance(array, np.ndarray) for array in arrays):
            self.model = FirstArrays(self._first)
