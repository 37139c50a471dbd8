"""SCAFFOLD: local steps that are corrected for how a site's data differ from all others'.

Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML 2020,
algorithm 1 with option II. Of N sites, those in S take part in a round. They receive the model x
and the server's control c, and have a control c_k of their own; site k takes K steps

    y_k <- y_k - lr * (g_k(y_k) - c_k + c),        then   c_k' = c_k - c + (x - y_k) / (K * lr),

and returns y_k and c_k' - c_k. The server takes plain means over S, whatever the sites' sizes:

    x <- x + server_lr * mean_S(y_k - x),           c <- c + |S| / N * mean_S(c_k' - c_k),

so that c stays the mean of all N controls, of sites that have never taken part as zeros. A site
whose update was not counted keeps its former control: each task names those that were asked in vain
and the round in which they were counted last (``client.scaffold_control``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from flare_async.client.scaffold_control import AlgorithmConstants
from flare_async.errors import ConfigError
from flare_async.jobs.companions import Companion, joined
from flare_async.jobs.filters.demand import with_filters
from flare_async.jobs.memory_demand import ModelDemand
from flare_async.jobs.recipe_arguments import recipe_arguments
from flare_async.recipes.algorithm import Algorithm, Averaged
from flare_async.recipes.model_checks import is_finite
from flare_async.recipes.model_rounds import ModelRounds
from flare_async.recipes.schedules import Constant
from flare_async.recipes.server_optimizers import SGD
from flare_async.recipes.server_step import RuleStep, private_bytes
from flare_async.recipes.trained_recipe import TrainedModelRecipe
from flare_async.roles.messages import Scalar
from flare_async.transfer.kernel import CHUNK, narrow, widen
from flare_async.transfer.tensors import TensorSet

__all__ = ["CONTROLS", "ScaffoldRecipe"]

CONTROLS: Final = Companion(
    AlgorithmConstants.SCAFFOLD_CTRL_GLOBAL, AlgorithmConstants.SCAFFOLD_CTRL_DIFF
)


@recipe_arguments
@dataclass(kw_only=True, eq=False)
class ScaffoldRecipe(TrainedModelRecipe):
    """SCAFFOLD; see ``ModelRecipe`` for the other arguments.

    Sites find the server's control, a dict of arrays, in ``model.meta["scaffold_c_global"]`` and
    must return ``meta["scaffold_c_diff"]`` with the same names; ``PTScaffoldHelper`` and
    ``TFScaffoldHelper`` compute it, and ``SiteControl`` keeps a control of one's own. Every site
    weighs the same.

    Raises:
        ConfigError: an argument cannot be used; the error names it.
    """

    name: str = "scaffold"
    server_lr: float = 1.0

    def __post_init__(self) -> None:
        if self.aggregation_weights:
            problem = "the controls are those of plain means"
            raise ConfigError("aggregation_weights", dict(self.aggregation_weights), problem)
        if not is_finite(self.server_lr) or self.server_lr <= 0:
            raise ConfigError("server_lr", self.server_lr, "a number above 0 is needed")
        super().__post_init__()
        self._rule = SGD(lr=self.server_lr)

    def weigh(self, site: str, meta: Mapping[str, Scalar]) -> float:
        """Return 1: the means are plain ones."""
        del site, meta
        return 1.0

    async def rounds(self, play: ModelRounds) -> None:
        """Run the rounds with the controls of this run."""
        controls = Controls(self.initial, self.stepped, len(play.cohort.sites), self._rule)
        await super().rounds(ModelRounds(self, play.cohort, controls))

    def demand(self) -> ModelDemand | None:
        """Return what the mean of model and controls needs; the control is there from the start."""
        both = joined(self.initial, {CONTROLS: zeros_like(self.initial, self.stepped)})
        needed = ModelDemand.of_mean(
            both,
            accumulator=self.accumulator,
            exclude=self.mean_options(both).exclude,
            staging=self.staging,
            exact=self.exact,
        )
        return with_filters(needed, self.filters)


class Controls(Algorithm):
    """One run's control variate; ``sites`` is how many there are in all."""

    def __init__(self, model: TensorSet, names: Sequence[str], sites: int, rule: SGD) -> None:
        self._control = zeros_like(model, names)
        self._sites = sites
        self._model_step = RuleStep(rule, Constant(), names)
        self._counted: dict[str, int] = {}  # the last round of each site that was counted
        self._in_vain: set[str] = set()  # asked since then

    def meta(self, number: int) -> Mapping[str, Scalar]:
        """Return when sites were counted last that were asked in vain since."""
        del number
        told = {site: self._counted.get(site, -1) for site in sorted(self._in_vain)}
        return {AlgorithmConstants.SCAFFOLD_LAST_COUNTED: json.dumps(told)}

    def companions(self, number: int) -> Mapping[Companion, TensorSet]:
        """Return the control, and that its change is to be answered."""
        del number
        return {CONTROLS: self._control}

    def step(self, model: TensorSet, average: Averaged) -> TensorSet:
        """Return the new model; the control moves by the part of the sites that answered."""
        counted = {update.site for update in average.updates}
        self._counted |= dict.fromkeys(counted, average.number)
        self._in_vain = (self._in_vain | set(average.sites)) - counted
        change = average.companions[CONTROLS]
        self._control = added(self._control, change, len(counted) / self._sites)
        return self._model_step.step(model, average.model)


def zeros_like(model: TensorSet, names: Sequence[str]) -> TensorSet:
    """Return tensors of zeros with the names, types and shapes of some of the model's."""
    specs = [model.spec(name) for name in names]
    return TensorSet.from_views(
        specs, {spec.name: np.zeros(spec.nbytes, np.uint8).data for spec in specs}
    )


def added(control: TensorSet, change: TensorSet, part: float) -> TensorSet:
    """Return ``control + part * change``, in the memory of the change."""
    views: dict[str, memoryview] = {}
    for spec in control.specs:
        old = control[spec.name]
        new = private_bytes(change[spec.name], old)
        for at in range(0, spec.nbytes, CHUNK):
            here = slice(at, at + CHUNK)
            total = widen(spec.dtype, old[here]).astype(np.float64)
            total += part * widen(spec.dtype, new.data[here]).astype(np.float64)
            new[here] = np.ascontiguousarray(narrow(spec.dtype, total)).view(np.uint8)
        views[spec.name] = new.data
    return TensorSet.from_views(control.specs, views)
