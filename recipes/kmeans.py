"""Federated mini-batch k-means.

Sculley, "Web-scale k-means clustering", WWW 2010, with sites in place of batches. In round 0 each
site k sends centres of its own; the server clusters them all into the first C. In every later round
a site starts from C and returns its centres c_j^k and how many of its samples, n_j^k, they are the
means of. With N_j the samples that cluster j has been given so far,

    C_j <- (N_j C_j + sum_k n_j^k c_j^k) / (N_j + sum_k n_j^k),      N_j <- N_j + sum_k n_j^k,

added in the order of the cohort in float64. A cluster that nobody has samples of stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from flare_async.errors import ConfigError
from flare_async.jobs.companions import Companion, plain_params
from flare_async.jobs.memory_demand import ModelDemand
from flare_async.jobs.models import load_model
from flare_async.jobs.recipe import Content, positive
from flare_async.jobs.recipe_arguments import recipe_arguments
from flare_async.jobs.run import Run
from flare_async.jobs.slots import slots
from flare_async.jobs.work import Framework
from flare_async.recipes.collected import Answers, Question, collected, demand_of_answers
from flare_async.recipes.model_recipe import ModelRecipe
from flare_async.recipes.model_rounds import ModelRounds
from flare_async.recipes.options import OF_SUMS, refuse_options
from flare_async.recipes.sklearn_fedavg import FILE, saved
from flare_async.recipes.whole import refuse_partial, require_sklearn
from flare_async.transfer.tensors import TensorSet

__all__ = ["KMeansFedAvgRecipe"]

Doubles = npt.NDArray[np.float64]


@recipe_arguments
@dataclass(kw_only=True, eq=False)
class KMeansFedAvgRecipe(ModelRecipe):
    """Mini-batch k-means over sites; ``FL_global_model.safetensors`` has ``center``.

    In round 0 sites receive ``params["n_clusters"]`` and return ``params={"center": c}`` with any
    number of centres; later they receive ``params["center"]`` and return ``center`` and ``count``.
    ``model_path`` is a file with a first ``center``: then there is no such round 0, and rounds are
    numbered from 1. What sites return in round 0 may be single samples: no filter makes them
    anonymous.

    Raises:
        ConfigError: an argument cannot be used; the error names it.
        MissingExtra: scikit-learn is not installed.
    """

    name: str = "kmeans_fedavg"
    num_rounds: int = 5
    n_clusters: int = 3
    model_path: str | None = None
    max_values: int = 65_536  # room for a site's first centres: clusters times features
    key_metric: str = "metrics"

    def __post_init__(self) -> None:
        refuse_partial(self)
        refuse_options(self, OF_SUMS, "answers are collected from all sites, and not summed")
        positive("n_clusters", self.n_clusters)
        positive("max_values", self.max_values)
        super().__post_init__()

    def first_model(self) -> tuple[TensorSet, Framework]:
        """Return the first centres; nothing where round 0 makes them. Raises ConfigError."""
        require_sklearn()  # now, not in the middle of a run
        path = self.model_path or self.initial_ckpt
        if path is None:
            return TensorSet.from_params({}), "numpy"
        center = load_model(None, path)[0].numpy().get("center")
        if center is None or center.ndim != 2 or len(center) != self.n_clusters:
            raise ConfigError("model_path", str(path), f"has no center of {self.n_clusters} rows")
        return TensorSet.from_params({"center": center.astype(np.float64)}), "numpy"

    async def rounds(self, play: ModelRounds) -> None:
        """Cluster the sites' own centres first, then take means weighted by samples."""
        clusters = Clusters(self.n_clusters, play.cohort.seed)
        model = self.initial
        if "center" in model:
            clusters.center = model.numpy()["center"].astype(np.float64)
        for number in range(0 if clusters.center is None else 1, self.num_rounds):
            question = Question(
                number=number,
                model=model,
                slots=self._slots(clusters),
                check=clusters.check,
                meta=plain_params({"n_clusters": self.n_clusters}),
                judged=clusters.center is not None,
            )
            model, ends = await collected(play, question, clusters.taken)
            if ends:
                break
        if "center" in model:
            await play.evaluated(model)

    def files(self, run: Run) -> Mapping[str, Callable[[], Content]]:
        """Return the last model as a joblib file."""
        if run.model is None:
            return {}
        return {FILE: partial(saved, dict(run.model.numpy()))}

    def demand(self) -> ModelDemand:
        """Return what there is room for: answers as they came, and what is taken out of them."""
        return demand_of_answers(self.max_values, self.filters)

    def _slots(self, clusters: Clusters) -> Mapping[Companion, TensorSet]:
        if clusters.center is None:
            return slots(center=(self.max_values,))
        return slots(center=clusters.center.shape, count=(self.n_clusters,))


class Clusters:
    """The centres, and how many samples each has been given."""

    def __init__(self, number: int, seed: int) -> None:
        self._number = number
        self._seed = seed
        self._given: Doubles = np.zeros(number)
        self.center: Doubles | None = None

    def check(self, answers: Answers) -> None:
        """Refuse answers that cannot be clustered. Raises ValueError."""
        center = answers["center"]
        if center.ndim != 2 or not center.size:
            raise ValueError(f"center has the shape {list(center.shape)}, rows are needed")
        if "count" in answers:
            counts = np.asarray(answers["count"], np.float64)
            if counts.size != self._number or np.any(counts < 0):
                problem = f"count is {counts.tolist()!s:.80}, a number for each"
                raise ValueError(f"{problem} of {self._number} clusters is needed")

    def taken(self, answers: Sequence[Answers]) -> TensorSet:
        """Return the model that these answers lead to, in their order. Raises ConfigError."""
        if self.center is None:
            self.center = self._first(np.concatenate([part["center"] for part in answers]))
        else:
            self.center = self._next(self.center, answers)
        return TensorSet.from_params({"center": self.center.copy()})

    def _first(self, centers: npt.NDArray[np.generic]) -> Doubles:
        from sklearn.cluster import KMeans

        if len(centers) < self._number:
            problem = f"the sites have sent {len(centers)} first centres together"
            raise ConfigError("n_clusters", self._number, problem, "send more of them, or ask less")
        fitted = KMeans(self._number, random_state=self._seed % 2**32).fit(centers)
        found: Doubles = np.asarray(fitted.cluster_centers_, np.float64)
        return found

    def _next(self, center: Doubles, answers: Sequence[Answers]) -> Doubles:
        sums = center * self._given[:, None]
        for part in answers:
            count = np.asarray(part["count"], np.float64).reshape(-1)
            sums += np.asarray(part["center"], np.float64) * count[:, None]
            self._given = self._given + count
        seen = self._given > 0
        means = sums / np.where(seen, self._given, 1.0)[:, None]
        return np.where(seen[:, None], means, center)
