"""What recipes with one global model have in common: their arguments, checks and rounds."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flare_async.errors import ConfigError, UpdateRefused
from flare_async.jobs.cohort import JobCohort
from flare_async.jobs.companions import refuse_reserved, sparing
from flare_async.jobs.memory import checked_gc_rounds
from flare_async.jobs.memory_demand import STAGINGS, ModelDemand, Staging
from flare_async.jobs.models import load_model
from flare_async.jobs.recipe import Recipe, positive
from flare_async.jobs.scripted import ScriptOptions
from flare_async.jobs.work import EvaluateFunction, Framework, Work
from flare_async.limits import Limits
from flare_async.model import MetaKey
from flare_async.recipes.algorithm import Algorithm
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
class ModelRecipe(ScriptOptions, Recipe):
    """Base of recipes that send one model to the sites and make the next of what comes back.

    ``model`` is a ``torch.nn.Module``, a Keras model, a dict of arrays or tensors, one array, or
    ``{"class_path": "package.Class", "args": {...}}``; ``initial_ckpt`` a file with its first
    tensors. ``train(model, site)`` runs at each site and returns an ``FLModel``, plain or async;
    ``train_script`` is a file that calls ``flare_async.client`` instead. ``evaluate(model, site)``
    returns metrics of the received model; it runs before training and, after the last round, once
    more, so that every version is evaluated. Without it the metrics that ``train`` returns, or a
    script sends, are taken as those of the received model.

    ``exact`` adds whole numbers, steps of ``2**-scale_bits``, in place of floats: the model has the
    same bits in whatever order and through whatever relays updates come. Accumulators, and what
    relays pass up, then have 8 bytes a value; weights should not be far below 1, and an update
    whose weight times value is above ``2**(63 - scale_bits)`` divided by the sites is refused.

    A recipe overrides ``algorithm`` (what the server makes of each mean), ``reducer`` (how updates
    become one), or ``rounds`` (everything).

    Raises:
        ConfigError: an argument cannot be used; the error names it.
    """

    min_clients: int  # updates that a round needs; a run needs as many sites to begin
    num_rounds: int = 2
    name: str = "model"
    model: object = None
    initial_ckpt: str | Path | None = None
    initial_model: object = None  # the former name of ``model``
    evaluate: EvaluateFunction | None = None

    round_timeout: float | None = None  # seconds; then the quorum closes the round
    clients_per_round: int | None = None  # updates that close a round; default: all sites'
    over_select: float = 1.0  # asks so many times more sites than are needed
    exclude_vars: str | None = None  # regular expression: such tensors keep the global value
    aggregation_weights: Mapping[str, float] | None = None
    accumulator: str | None = None  # "float32" or "float64"; default by the model's size
    exact: bool = False  # the same bits in any order and grouping, see above
    scale_bits: int = 32  # of an exact sum, from 0 to 60
    staging: Staging = "spool"  # where updates wait: in a file, or "repull": at their sites
    max_norm: float | None = None  # refuses an update with a tensor whose norm is larger
    server_memory_gc_rounds: int | None = None  # gives memory back after so many; 0 is never
    client_memory_gc_rounds: int | None = None  # None: after each, for models from 64 MB on

    key_metric: str = "accuracy"  # chooses the best model
    lower_is_better: bool = False
    stop_cond: str | None = None  # "accuracy >= 0.95": ends the run when the model meets it
    patience: int | None = None  # ends it after so many evaluations without a better one
    save_filename: str = "FL_global_model.pt"

    def __post_init__(self) -> None:
        self.check_basics()
        self.check_scripts()
        self._take_initial_model()
        framework: Framework
        self.initial, framework = self.load()
        self._kind: Framework = framework
        refuse_reserved("model", self.initial)
        self._let_go_of_arrays()
        for site in self.sites_with_work:
            self.work(site)
        Judge(self.key_metric, stop_cond=self.stop_cond, patience=self.patience)
        self._check_rounds()
        self._check_memory()
        self.reducer(self.initial, ("any",))

    # What a recipe may override

    def load(self) -> tuple[TensorSet, Framework]:
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
        if isinstance(steps, bool) or not isinstance(steps, int | float):
            raise UpdateRefused(site, f"NUM_STEPS_CURRENT_ROUND is {steps!r:.40}, not a number")
        return steps * (self.aggregation_weights or {}).get(site, 1.0)

    def received(self, update: Update) -> tuple[Mapping[str, float], float]:
        """Return the metrics of the model that a site received, and their weight."""
        if self.evaluate is None:
            return update.metrics, update.weight
        metrics = dict(update.received)
        return metrics, metrics.pop("num_examples", 1.0)

    async def rounds(self, play: ModelRounds) -> None:
        """Run the rounds: each site's update, their mean, what the algorithm makes of it."""
        model = self.initial
        for number in range(self.num_rounds):
            played = await play.averaged(number, model)
            model = played.model
            if played.ends:
                break
        await play.evaluated(model)

    # Recipe

    async def coordinate(self, cohort: JobCohort) -> None:
        """Run the rounds; the best model is the one that the sites evaluated as such."""
        await cohort.checkpoint(self.initial, 0, behind=True)
        try:
            await self.rounds(ModelRounds(self, cohort))
        finally:
            await cohort.settle()

    def demand(self) -> ModelDemand | None:
        """Return the current model from the second round on, and the mean; the first is here."""
        return ModelDemand.of_mean(
            self.initial,
            accumulator=self.accumulator,
            exclude=self.exclude_vars,
            versions=min(1, self.num_rounds - 1),
            staging=self.staging,
            exact=self.exact,
        )

    @property
    def torch_filename(self) -> str | None:
        """``save_filename``, for a PyTorch model."""
        return self.save_filename if self._kind == "torch" else None

    def check_sites(self, sites: Sequence[str]) -> None:
        """Refuse options and weights of sites that do not exist. Raises ConfigError."""
        for name in ("per_site_config", "aggregation_weights"):
            unknown = sorted(set(getattr(self, name) or {}) - set(sites))
            if unknown:
                raise ConfigError(name, unknown[:5], "no such sites", f"known: {sites[0]}, ...")

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

    def _take_initial_model(self) -> None:
        if self.initial_model is None:
            return
        if self.model is not None:
            raise ConfigError("initial_model", "...", "model= is given too", "leave it out")
        warnings.warn("initial_model is called model now", DeprecationWarning, stacklevel=5)
        self.model, self.initial_model = self.initial_model, None

    def _let_go_of_arrays(self) -> None:
        # ``initial`` is a copy; the caller's own arrays need not live as long as the recipe.
        given = self.model
        if isinstance(given, Mapping) and all(isinstance(a, np.ndarray) for a in given.values()):
            self.model = self.initial.numpy()

    def _check_memory(self) -> None:
        if self.staging not in STAGINGS:
            raise ConfigError("staging", self.staging, f"use one of {', '.join(STAGINGS)}")
        most = self.max_norm
        if most is not None and (not is_finite(most) or most <= 0):
            raise ConfigError("max_norm", most, "a number above 0 is needed")
        for name in ("server_memory_gc_rounds", "client_memory_gc_rounds"):
            checked_gc_rounds(name, getattr(self, name))

    def _check_rounds(self) -> None:
        size, least = self.clients_per_round, self.min_clients
        if size is not None and positive("clients_per_round", size) < least:
            problem = f"is below min_clients={least}: no round could reach its quorum"
            raise ConfigError("clients_per_round", size, problem)
        if not is_finite(self.over_select) or self.over_select < 1:
            raise ConfigError("over_select", self.over_select, "a number of at least 1 is needed")
        timeout = self.round_timeout
        if timeout is not None and (not is_finite(timeout) or timeout <= 0):
            raise ConfigError("round_timeout", timeout, "seconds above 0 are needed")


def is_finite(value: object) -> bool:
    """Return whether ``value`` is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)
