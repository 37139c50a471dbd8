"""Recipes: federated algorithms by name, one a file.

A recipe is two things: what the server does with a cohort (``coordinate``) and what a site does
with a task (``work``). Everything else, from transfers to checkpoints, is the runtime's. Names are
imported when they are first used. ``TensorServerStreamer``, ``TensorClientStreamer`` and
``ExchangeFormat`` are for job files written for NVFlare.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flare_async.jobs.components import (
        ExchangeFormat,
        TensorClientStreamer,
        TensorServerStreamer,
    )
    from flare_async.recipes.async_fedavg import AsyncFedAvgRecipe
    from flare_async.recipes.client_cyclic import ClientCyclicRecipe
    from flare_async.recipes.cross_site import add_cross_site_evaluation
    from flare_async.recipes.cyclic import CyclicRecipe
    from flare_async.recipes.ditto import DittoRecipe
    from flare_async.recipes.fed_stats import FedStatsRecipe
    from flare_async.recipes.fedavg import FedAvgRecipe
    from flare_async.recipes.fedbn import FedBNRecipe
    from flare_async.recipes.fedbuff import FedBuffRecipe
    from flare_async.recipes.fedeval import FedEvalRecipe
    from flare_async.recipes.fedopt import FedOptRecipe
    from flare_async.recipes.fedprox import FedProxRecipe
    from flare_async.recipes.kmeans import KMeansFedAvgRecipe
    from flare_async.recipes.logistic_newton import FedAvgLrRecipe
    from flare_async.recipes.numpy_cross_site import NumpyCrossSiteEvalRecipe
    from flare_async.recipes.numpy_fedavg import NumpyFedAvgRecipe
    from flare_async.recipes.qfedavg import QFedAvgRecipe
    from flare_async.recipes.scaffold import ScaffoldRecipe
    from flare_async.recipes.sklearn_fedavg import SklearnFedAvgRecipe
    from flare_async.recipes.svm import SVMFedAvgRecipe
    from flare_async.recipes.swarm import SwarmRecipe
    from flare_async.recipes.tracking import add_experiment_tracking
    from flare_async.transfer.robust_rules import Krum, Median, TrimmedMean

__all__ = [
    "AsyncFedAvgRecipe",
    "ClientCyclicRecipe",
    "CyclicRecipe",
    "DittoRecipe",
    "ExchangeFormat",
    "FedAvgLrRecipe",
    "FedAvgRecipe",
    "FedBNRecipe",
    "FedBuffRecipe",
    "FedEvalRecipe",
    "FedOptRecipe",
    "FedProxRecipe",
    "FedStatsRecipe",
    "KMeansFedAvgRecipe",
    "Krum",
    "Median",
    "NumpyCrossSiteEvalRecipe",
    "NumpyFedAvgRecipe",
    "QFedAvgRecipe",
    "SVMFedAvgRecipe",
    "ScaffoldRecipe",
    "SklearnFedAvgRecipe",
    "SwarmRecipe",
    "TensorClientStreamer",
    "TensorServerStreamer",
    "TrimmedMean",
    "add_cross_site_evaluation",
    "add_experiment_tracking",
]

_MODULES = {
    "AsyncFedAvgRecipe": "flare_async.recipes.async_fedavg",
    "ClientCyclicRecipe": "flare_async.recipes.client_cyclic",
    "CyclicRecipe": "flare_async.recipes.cyclic",
    "DittoRecipe": "flare_async.recipes.ditto",
    "ExchangeFormat": "flare_async.jobs.components",
    "FedAvgLrRecipe": "flare_async.recipes.logistic_newton",
    "FedAvgRecipe": "flare_async.recipes.fedavg",
    "FedBNRecipe": "flare_async.recipes.fedbn",
    "FedBuffRecipe": "flare_async.recipes.fedbuff",
    "FedEvalRecipe": "flare_async.recipes.fedeval",
    "FedOptRecipe": "flare_async.recipes.fedopt",
    "FedProxRecipe": "flare_async.recipes.fedprox",
    "FedStatsRecipe": "flare_async.recipes.fed_stats",
    "KMeansFedAvgRecipe": "flare_async.recipes.kmeans",
    "Krum": "flare_async.transfer.robust_rules",
    "Median": "flare_async.transfer.robust_rules",
    "NumpyCrossSiteEvalRecipe": "flare_async.recipes.numpy_cross_site",
    "NumpyFedAvgRecipe": "flare_async.recipes.numpy_fedavg",
    "QFedAvgRecipe": "flare_async.recipes.qfedavg",
    "SVMFedAvgRecipe": "flare_async.recipes.svm",
    "ScaffoldRecipe": "flare_async.recipes.scaffold",
    "SklearnFedAvgRecipe": "flare_async.recipes.sklearn_fedavg",
    "SwarmRecipe": "flare_async.recipes.swarm",
    "TensorClientStreamer": "flare_async.jobs.components",
    "TensorServerStreamer": "flare_async.jobs.components",
    "TrimmedMean": "flare_async.transfer.robust_rules",
    "add_cross_site_evaluation": "flare_async.recipes.cross_site",
    "add_experiment_tracking": "flare_async.recipes.tracking",
}


if not TYPE_CHECKING:  # a type checker shall report a name that does not exist

    def __getattr__(name: str) -> object:
        """Import a name on its first use (PEP 562).

        Raises:
            AttributeError: there is no such name.
        """
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_MODULES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
