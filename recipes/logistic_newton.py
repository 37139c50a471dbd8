"""Second-order federated logistic regression: Newton's method with damped steps.

Federated as in FedNL's exact case (Safaryan et al., ICML 2022): the Hessian of a sum is the sum of
the Hessians. With X_k a site's samples (a first column of ones), y_k its labels in {0, 1} and
p_k = 1 / (1 + exp(-X_k w)), a site returns

    gradient  g_k = X_k' (y_k - p_k),      hessian  H_k = X_k' diag(p_k (1 - p_k)) X_k,

of the log-likelihood and its negative. With L = l2 I but 0 for the intercept, the server takes

    w <- w + damping_factor (sum_k H_k + L + epsilon I)^-1 (sum_k g_k - L w).

Its fixed point is the pooled estimate: scikit-learn's ``LogisticRegression(C=1/l2)``.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt

from flare_async.errors import ConfigError
from flare_async.jobs.companions import Companion, joined
from flare_async.jobs.filters.demand import with_filters
from flare_async.jobs.memory_demand import ModelDemand
from flare_async.jobs.models import load_model
from flare_async.jobs.recipe import positive
from flare_async.jobs.recipe_arguments import recipe_arguments
from flare_async.jobs.run import Run
from flare_async.jobs.slots import SLOTS, slots
from flare_async.jobs.work import Framework
from flare_async.model import NPConstants
from flare_async.recipes.algorithm import Algorithm, Averaged
from flare_async.recipes.model_checks import is_finite
from flare_async.recipes.model_recipe import ModelRecipe
from flare_async.recipes.whole import refuse_partial
from flare_async.roles.messages import Scalar
from flare_async.roles.round import Update
from flare_async.transfer.capture import Array
from flare_async.transfer.tensors import TensorSet

__all__ = ["FedAvgLrRecipe"]

WEIGHTS = NPConstants.NUMPY_KEY
FILE: Final = "models/weights.npy"
Doubles = npt.NDArray[np.float64]


@recipe_arguments
@dataclass(kw_only=True, eq=False)
class FedAvgLrRecipe(ModelRecipe):
    """Logistic regression by Newton's method; ``FL_global_model.safetensors`` has ``numpy_key``.

    Sites receive ``params["numpy_key"]``, the weights as a column with the intercept first, and
    return ``params={"gradient": g, "hessian": H}`` of sums over their samples. ``l2`` is the
    penalty of scikit-learn's ``C=1/l2``; ``epsilon`` only shortens steps: it keeps the Hessian
    regular and moves no fixed point.

    Raises:
        ConfigError: an argument cannot be used; the error names it.
    """

    name: str = "lr_fedavg"
    damping_factor: float = 0.8
    num_features: int = 13
    l2: float = 0.0
    epsilon: float = 1.0

    def __post_init__(self) -> None:
        refuse_partial(self)
        positive("num_features", self.num_features)
        if not is_finite(self.damping_factor) or not 0 < self.damping_factor <= 1:
            problem = "a number above 0 and up to 1 is needed"
            raise ConfigError("damping_factor", self.damping_factor, problem)
        for name in ("l2", "epsilon"):
            value = getattr(self, name)
            if not is_finite(value) or value < 0:
                raise ConfigError(name, value, "a number of at least 0 is needed")
        super().__post_init__()

    def first_model(self) -> tuple[TensorSet, Framework]:
        """Return zeros, or the weights of ``initial_ckpt``. Raises ConfigError."""
        size = self.num_features + 1
        weights: Doubles = np.zeros((size, 1))
        if self.initial_ckpt is not None:
            found = load_model(None, self.initial_ckpt)[0].numpy().get(WEIGHTS)
            if found is None or found.size != size:
                problem = f"has no {WEIGHTS} of {size} values: num_features and the intercept"
                raise ConfigError("initial_ckpt", str(self.initial_ckpt), problem)
            weights = found.astype(np.float64).reshape(size, 1)
        return TensorSet.from_params({WEIGHTS: weights}), "numpy"

    def files(self, run: Run) -> Mapping[str, Callable[[], bytes]]:
        """Return the last model as a NumPy file."""
        if run.model is None:
            return {}
        return {FILE: partial(saved, run.model.numpy()[WEIGHTS])}

    def demand(self) -> ModelDemand:
        """Return what a mean of weights, gradients and Hessians needs."""
        mean = ModelDemand.of_mean(
            joined(self.initial, Newton(self).companions(0)),
            accumulator=self.accumulator,
            versions=min(1, self.num_rounds - 1),
            staging=self.staging,
            exact=self.exact,
        )
        return with_filters(mean, self.filters)

    def algorithm(self) -> Algorithm:
        """Return Newton's step."""
        return Newton(self)

    def weigh(self, site: str, meta: Mapping[str, Scalar]) -> float:
        """Return 1: what is wanted is the sum, and sites have summed over their samples."""
        super().weigh(site, meta)
        return 1.0

    def received(self, update: Update) -> tuple[Mapping[str, float], float]:
        """Return the metrics, weighted by the samples that a site says it has."""
        metrics, weight = super().received(update)
        if self.evaluate is None:
            weight = super().weigh(update.site, update.meta)
        return metrics, weight


class Newton(Algorithm):
    """Damped Newton steps on the weights that were sent."""

    def __init__(self, recipe: FedAvgLrRecipe) -> None:
        self._recipe = recipe
        self._size = recipe.num_features + 1

    def companions(self, number: int) -> Mapping[Companion, TensorSet]:
        """Return room for a gradient and a Hessian."""
        del number
        return slots(gradient=(self._size, 1), hessian=(self._size, self._size))

    def step(self, model: TensorSet, average: Averaged) -> TensorSet:
        """Return the next weights; the sums are the means times the sites.

        Raises:
            ConfigError: the Hessian cannot be inverted, or the step is not finite.
        """
        recipe, sites = self._recipe, len(average.updates)
        weights = model.numpy()[WEIGHTS].astype(np.float64)
        means = average.companions[SLOTS].numpy()
        penalty = np.full(self._size, recipe.l2)
        penalty[0] = 0.0  # the intercept
        gradient, hessian = (sites * means[of].astype(np.float64) for of in ("gradient", "hessian"))
        gradient -= penalty[:, None] * weights
        hessian += np.diag(penalty + recipe.epsilon)
        try:
            step = np.linalg.solve(hessian, gradient)
        except np.linalg.LinAlgError as exc:
            problem = "the Hessian of all sites is singular"
            raise ConfigError("epsilon", recipe.epsilon, problem, "give more, or l2=") from exc
        if not np.isfinite(step).all():
            problem = "the Hessian of all sites is so small that the step is not finite"
            raise ConfigError("epsilon", recipe.epsilon, problem, "give more, or l2=")
        return TensorSet.from_params({WEIGHTS: weights + recipe.damping_factor * step})


def saved(weights: Array) -> bytes:
    """Return weights as the content of a NumPy file."""
    buffer = io.BytesIO()
    np.save(buffer, weights, allow_pickle=False)
    return buffer.getvalue()
