"""Federated support vector machine: the server fits the support vectors of all sites.

A cascade of one step (Graf et al., "Parallel support vector machines: the cascade SVM", 2004).
In round 0 site k fits its own samples and sends its support vectors (x_i, y_i), i in S_k; the
server fits their union U in the order of the cohort,

    max_a  sum_i a_i - 1/2 sum_ij a_i a_j y_i y_j K(x_i, x_j),   0 <= a_i <= C,   i, j in U,

and keeps those with a_i > 0. In round 1 every site is sent them and evaluates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from flare_async.errors import ConfigError
from flare_async.jobs.companions import plain_params
from flare_async.jobs.memory_demand import ModelDemand
from flare_async.jobs.recipe import Content, positive
from flare_async.jobs.recipe_arguments import recipe_arguments
from flare_async.jobs.run import Run
from flare_async.jobs.slots import slots
from flare_async.jobs.work import Framework
from flare_async.recipes.collected import (
    Answers,
    Question,
    collected,
    demand_of_answers,
    validated,
)
from flare_async.recipes.model_recipe import ModelRecipe
from flare_async.recipes.model_rounds import ModelRounds
from flare_async.recipes.options import OF_SUMS, refuse_options
from flare_async.recipes.sklearn_fedavg import FILE, saved
from flare_async.recipes.whole import refuse_partial, require_sklearn
from flare_async.transfer.capture import Array
from flare_async.transfer.tensors import TensorSet

__all__ = ["SVMFedAvgRecipe"]

KERNELS = ("linear", "poly", "rbf", "sigmoid")


@recipe_arguments
@dataclass(kw_only=True, eq=False)
class SVMFedAvgRecipe(ModelRecipe):
    """An SVM over sites; ``FL_global_model.safetensors`` has ``support_x`` and ``support_y``.

    In round 0 sites receive ``params["kernel"]`` and return ``params={"support_x": x,
    "support_y": y}``, y as numbers; in round 1 they receive the global ones, to evaluate. Support
    vectors are samples: no filter makes them anonymous.

    Raises:
        ConfigError: an argument cannot be used; the error names it.
        MissingExtra: scikit-learn is not installed.
    """

    name: str = "svm_fedavg"
    num_rounds: int = field(default=2, init=False)
    kernel: str = "rbf"
    model_path: str | None = None  # NVFlare's file is a pickle: refused
    max_values: int = 131_072  # room for a site's support vectors: vectors times features
    max_support: int = 8_192  # ... and for their labels
    key_metric: str = "AUC"

    def __post_init__(self) -> None:
        refuse_partial(self)
        refuse_options(self, OF_SUMS, "answers are collected from all sites, and not summed")
        if self.kernel not in KERNELS:
            raise ConfigError("kernel", self.kernel, f"use one of {', '.join(KERNELS)}")
        for name in ("model_path", "initial_ckpt"):
            if getattr(self, name) is not None:
                raise ConfigError(name, getattr(self, name), "an SVM starts from its samples")
        positive("max_values", self.max_values)
        positive("max_support", self.max_support)
        super().__post_init__()

    def first_model(self) -> tuple[TensorSet, Framework]:
        """Return a model of nothing: there is none before round 0. Raises MissingExtra."""
        require_sklearn()  # now, not in the middle of a run
        return TensorSet.from_params({}), "numpy"

    async def rounds(self, play: ModelRounds) -> None:
        """Collect support vectors, fit them, and have the result evaluated."""
        meta = plain_params({"kernel": self.kernel})
        question = Question(
            number=0,
            model=self.initial,
            slots=slots(support_x=(self.max_values,), support_y=(self.max_support,)),
            check=check,
            meta=meta,
            judged=False,
        )
        model, _ = await collected(play, question, self.fitted)
        scripted = any(self.work(site).script is not None for site in play.cohort.sites)
        if scripted or self.evaluate is not None:
            await validated(play, 1, model, meta)

    def files(self, run: Run) -> Mapping[str, Callable[[], Content]]:
        """Return the last model as a joblib file."""
        if run.model is None:
            return {}
        return {FILE: partial(saved, {**run.model.numpy(), "kernel": self.kernel})}

    def demand(self) -> ModelDemand:
        """Return what there is room for: answers as they came, and what is taken out of them."""
        return demand_of_answers(self.max_values + self.max_support, self.filters)

    def fitted(self, answers: Sequence[Answers]) -> TensorSet:
        """Return the support vectors of all that sites sent. Raises ConfigError."""
        from sklearn.svm import SVC

        samples = np.concatenate([part["support_x"] for part in answers])
        labels = whole(np.concatenate([part["support_y"] for part in answers]).reshape(-1))
        if len(kinds := np.unique(labels)) < 2:
            problem = f"all {len(labels)} support vectors are labelled {kinds[0]}"
            raise ConfigError("support_y", kinds.tolist(), problem, "send samples of two classes")
        support = SVC(kernel=self.kernel).fit(samples, labels).support_
        return TensorSet.from_params({"support_x": samples[support], "support_y": labels[support]})


def check(answers: Answers) -> None:
    """Refuse support vectors without labels. Raises ValueError."""
    samples, labels = answers["support_x"], answers["support_y"]
    if samples.ndim != 2 or not samples.size or labels.size != len(samples):
        shapes = f"{list(samples.shape)} and {list(labels.shape)}"
        raise ValueError(f"support_x and support_y have the shapes {shapes}: one label a row")


def whole(labels: Array) -> Array:
    """Return labels as integers where they are."""
    rounded = labels.astype(np.int64)
    return rounded if np.array_equal(rounded, labels) else labels
