"""The recipes that ``bench.recipe_memory`` measures, by the names that docs/recipes.md has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.recipe_memory_sites import (
    Columns,
    Laggard,
    centres_of,
    judged,
    moved,
    moved_beside,
    sums_of,
    supports_of,
)
from flare_async import FLModel
from flare_async.jobs.recipe import Recipe
from flare_async.recipes import (
    AsyncFedAvgRecipe,
    ClientCyclicRecipe,
    CyclicRecipe,
    DittoRecipe,
    FedAvgLrRecipe,
    FedAvgRecipe,
    FedBNRecipe,
    FedBuffRecipe,
    FedEvalRecipe,
    FedOptRecipe,
    FedProxRecipe,
    FedStatsRecipe,
    KMeansFedAvgRecipe,
    NumpyCrossSiteEvalRecipe,
    NumpyFedAvgRecipe,
    QFedAvgRecipe,
    ScaffoldRecipe,
    SklearnFedAvgRecipe,
    SVMFedAvgRecipe,
    SwarmRecipe,
    add_cross_site_evaluation,
)

__all__ = ["CASES", "Case", "Shape"]

TENSORS: Final = 16
BOTH: Final = (5, 10)  # where it shows what depends on their number
ROUNDS: Final = 2  # from the second one on there is a model beside the first
VERSIONS: Final = 8  # without rounds
FEATURES: Final = 100  # of federated statistics
BINS: Final = 20
SCRIPT: Final = Path(__file__).parent / "recipe_memory_script.py"


@dataclass(frozen=True, slots=True)
class Shape:
    """How large what is counted is, how many sites there are, and a folder for a first model."""

    nbytes: int
    sites: int
    folder: Path

    def arrays(self) -> dict[str, np.ndarray]:
        """Return a model of float32 tensors."""
        size = max(1, self.nbytes // 4 // TENSORS)
        draw = np.random.default_rng(0)
        return {f"layer{at}.weight": draw.random(size, np.float32) for at in range(TENSORS)}

    def names(self) -> list[str]:
        """Return the sites' names."""
        return [f"site-{number}" for number in range(1, self.sites + 1)]

    def common(self, rounds: int = ROUNDS) -> dict[str, Any]:
        """Return what all recipes with rounds take."""
        return {"min_clients": self.sites, "num_rounds": rounds}

    def rounds(self, **instead: Any) -> dict[str, Any]:
        """Return what all recipes with a global model take."""
        return {"model": self.arrays(), "train": moved, **self.common(), **instead}


@dataclass(frozen=True, slots=True)
class Case:
    """How a recipe is made, and what a copy is: a model, or what one site answers."""

    make: Callable[[Shape], Recipe]
    unit: str = "models"
    nbytes: int = 64 * 2**20  # of a copy; models from 64 MB on are summed in float32
    sites: Sequence[int] = (5,)


class RunningSum:
    """An aggregator that keeps one sum."""

    def reset_stats(self) -> None:
        """Forget."""
        self._sum: dict[str, np.ndarray] = {}
        self._count = 0

    def accept_model(self, model: FLModel) -> None:
        """Add an update."""
        self._count += 1
        for name, array in (model.params or {}).items():
            if name in self._sum:
                self._sum[name] += array
            else:
                self._sum[name] = np.array(array)

    def aggregate_model(self) -> FLModel:
        """Return the mean, in the memory of the sum."""
        for name in self._sum:
            self._sum[name] /= self._count
        return FLModel(params=dict(self._sum))


def averaging(shape: Shape, **more: Any) -> Recipe:
    """Return FedAvg with something more."""
    return FedAvgRecipe(**shape.rounds(), **more)


def described(nbytes: int) -> dict[str, np.ndarray]:
    """Return a model, as the class of a user's would be."""
    return Shape(nbytes, 0, Path()).arrays()


def of_class(shape: Shape) -> Recipe:
    """Return FedAvg of a model that is described by its class."""
    named = {"class_path": f"{__name__}.described", "args": {"nbytes": shape.nbytes}}
    return FedAvgRecipe(**shape.rounds(model=named))


def of_file(shape: Shape) -> Recipe:
    """Return FedAvg of a model in a file."""
    path = shape.folder / "first.npy"
    np.save(path, np.zeros(shape.nbytes // 4, np.float32))
    return FedAvgRecipe(**shape.rounds(model=None), initial_ckpt=path)


def of_arrays(shape: Shape) -> Recipe:
    """Return FedAvg of arrays that the user keeps."""
    arrays = shape.arrays()
    return FedAvgRecipe(**shape.rounds(model=arrays, train=partial(moved_beside, arrays)))


def stepping(shape: Shape, rule: str, **more: float) -> Recipe:
    """Return FedOpt with a rule."""
    return FedOptRecipe(**shape.rounds(), optimizer_args={"class_path": rule, "args": more})


def normalised(shape: Shape) -> Recipe:
    """Return FedBN for a model with one small layer of batch normalisation."""
    parts = ("weight", "bias", "running_mean", "running_var")
    layer = {f"norm.{part}": np.ones(8, np.float32) for part in parts}
    return FedBNRecipe(**shape.rounds(model={**shape.arrays(), **layer}))


def evaluation(shape: Shape) -> Recipe:
    """Return federated evaluation."""
    return FedEvalRecipe(model=shape.arrays(), evaluate=judged, min_clients=shape.sites)


def one_array(shape: Shape) -> Recipe:
    """Return FedAvg of one array."""
    model = np.zeros(shape.nbytes // 4, np.float32)
    return NumpyFedAvgRecipe(model=model, train=moved, **shape.common())


def linear(shape: Shape) -> Recipe:
    """Return FedAvg of a linear model's coefficients."""
    coef = np.zeros((16, max(1, shape.nbytes // 64)), np.float32)
    values = {"coef": coef, "intercept": np.zeros(16, np.float32), "n_classes": 16}
    return SklearnFedAvgRecipe(model_params=values, train=moved, **shape.common())


def newton(shape: Shape) -> Recipe:
    """Return Newton's method; a copy is a Hessian of float64."""
    features = max(2, round((shape.nbytes / 8) ** 0.5) - 1)
    return FedAvgLrRecipe(num_features=features, train=sums_of, **shape.common())


def clusters(shape: Shape) -> Recipe:
    """Return k-means of 8 clusters; a copy is the centres of one site."""
    values = shape.nbytes // 8
    train = partial(centres_of, values=values)
    return KMeansFedAvgRecipe(n_clusters=8, max_values=values, train=train, **shape.common())


def supports(shape: Shape) -> Recipe:
    """Return an SVM; a copy is the 100 support vectors of one site."""
    values = max(100, shape.nbytes // 8)
    train = partial(supports_of, features=values // 100)
    return SVMFedAvgRecipe(train=train, evaluate=judged, max_values=values, min_clients=shape.sites)


def statistics(shape: Shape) -> Recipe:
    """Return histograms, quantiles and moments of 100 features."""
    wanted: dict[str, Any] = {
        **{name: {} for name in ("count", "mean", "stddev", "min", "max")},
        "histogram": {"*": {"bins": BINS}},
        "quantile": {"*": [0.25, 0.5, 0.75]},
    }
    return FedStatsRecipe(
        name="statistics",
        stats_output_path="statistics.json",
        sites=shape.names(),
        statistic_configs=wanted,
        stats_generator=Columns(FEATURES),
    )


def submitted(shape: Shape) -> Recipe:
    """Return cross-site evaluation of models that scripts submit, and of one of the server's."""
    path = shape.folder / "first.npy"
    np.save(path, np.zeros(shape.nbytes // 4, np.float32))
    return NumpyCrossSiteEvalRecipe(min_clients=shape.sites, initial_ckpt=path, eval_script=SCRIPT)


def across(shape: Shape) -> Recipe:
    """Return FedAvg that ends with a cross-site evaluation."""
    recipe = averaging(shape, evaluate=judged)
    add_cross_site_evaluation(recipe)
    return recipe


def unordered(kind: type[AsyncFedAvgRecipe | FedBuffRecipe], shape: Shape, **more: int) -> Recipe:
    """Return a recipe without rounds, whose sites are alike."""
    return kind(**shape.rounds(num_rounds=VERSIONS, **more))


def lagging(shape: Shape) -> Recipe:
    """Return asynchronous FedAvg with one site that works on an older version than all others."""
    train = Laggard(behind=3).train
    return AsyncFedAvgRecipe(**shape.rounds(num_rounds=2 * VERSIONS, train=train))


def plain(kind: Callable[..., Recipe]) -> Case:
    """Return a recipe with a global model and nothing else to say."""
    return Case(lambda shape: kind(**shape.rounds()))


CASES: Final[Mapping[str, Case]] = {
    "AsyncFedAvgRecipe": Case(partial(unordered, AsyncFedAvgRecipe), sites=BOTH),
    "AsyncFedAvgRecipe, a laggard": Case(lagging),
    "ClientCyclicRecipe": plain(ClientCyclicRecipe),
    "CyclicRecipe": plain(CyclicRecipe),
    "DittoRecipe": plain(DittoRecipe),
    "FedAvgRecipe": Case(averaging, sites=BOTH),
    "FedAvgRecipe, a class": Case(of_class),
    "FedAvgRecipe, a file": Case(of_file),
    "FedAvgRecipe, arrays of the user's": Case(of_arrays),
    "FedAvgRecipe(aggregator=...)": Case(
        lambda shape: averaging(shape, aggregator=RunningSum()), sites=BOTH
    ),
    'FedAvgRecipe(aggregator="median")': Case(partial(averaging, aggregator="median"), sites=BOTH),
    "TrimmedMean": Case(partial(averaging, aggregator="trimmed_mean")),
    "Krum": Case(partial(averaging, aggregator="krum")),
    "FedAvgLrRecipe": Case(newton, "Hessians", 16 * 2**20, BOTH),
    "FedBNRecipe": Case(normalised),
    "FedBuffRecipe": Case(partial(unordered, FedBuffRecipe, buffer_size=2), sites=BOTH),
    "FedEvalRecipe": Case(evaluation),
    "FedOptRecipe": Case(partial(stepping, rule="adam")),
    "FedOptRecipe, SGD": Case(partial(stepping, rule="sgd")),
    "FedOptRecipe, momentum": Case(partial(stepping, rule="sgd", momentum=0.9)),
    "FedProxRecipe": plain(FedProxRecipe),
    "FedStatsRecipe": Case(statistics, "MB", 10**6, BOTH),
    "NumpyCrossSiteEvalRecipe": Case(submitted),
    "add_cross_site_evaluation": Case(across),
    "KMeansFedAvgRecipe": Case(clusters, "a site's centres", 16 * 2**20, BOTH),
    "NumpyFedAvgRecipe": Case(one_array),
    "QFedAvgRecipe": plain(QFedAvgRecipe),
    "SVMFedAvgRecipe": Case(supports, "a site's vectors", 8 * 2**20, BOTH),
    "ScaffoldRecipe": plain(ScaffoldRecipe),
    "SklearnFedAvgRecipe": Case(linear),
    "SwarmRecipe": plain(SwarmRecipe),
}
