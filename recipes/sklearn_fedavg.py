"""Federated averaging of scikit-learn's linear models: ``SklearnFedAvgRecipe``.

The equation is that of ``fedavg.py``, over the arrays of ``model_params`` (``coef``,
``intercept``). What else is in there, such as ``loss`` or ``n_classes``, does not change: sites
find it among the params that they receive. ``model_param.joblib`` in the run folder has all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from flare_async.errors import ConfigError, MissingExtra
from flare_async.jobs.companions import plain_params
from flare_async.jobs.models import load_model
from flare_async.jobs.pieces import Pieces
from flare_async.jobs.recipe import Content
from flare_async.jobs.recipe_arguments import recipe_arguments
from flare_async.jobs.run import Run
from flare_async.jobs.work import Framework
from flare_async.recipes.algorithm import Algorithm
from flare_async.recipes.fedavg import FedAvgRecipe
from flare_async.recipes.first_model import FirstArrays
from flare_async.roles.messages import Scalar
from flare_async.transfer.capture import Array
from flare_async.transfer.tensors import TensorSet

__all__ = ["SklearnFedAvgRecipe"]

FILE: Final = "model_param.joblib"


class Settled(Algorithm):
    """FedAvg that tells every site the parameters that do not change."""

    def __init__(self, values: Mapping[str, Scalar]) -> None:
        self._meta = plain_params(values)

    def meta(self, number: int) -> Mapping[str, Scalar]:
        """Return them; sites find them among the params."""
        del number
        return self._meta


@recipe_arguments
@dataclass(kw_only=True, eq=False)
class SklearnFedAvgRecipe(FedAvgRecipe):
    """FedAvg of the arrays in ``model_params``, with its other values for every site.

    A server must know what it averages: give ``coef`` and ``intercept`` as arrays, or
    ``n_features`` beside an ``n_classes`` among ``model_params``; then they begin as zeros.
    ``model_path`` is a safetensors file with their first values.

    Raises:
        ConfigError: an argument cannot be used; the error names it.
        MissingExtra: joblib is not installed.
    """

    name: str = "sklearn_fedavg"
    model_params: Mapping[str, object] | None = None
    model_path: str | Path | None = None
    n_features: int | None = None

    def __post_init__(self) -> None:
        try:
            import joblib  # type: ignore[import-untyped]  # noqa: F401
        except ImportError as exc:
            raise MissingExtra("joblib", "sklearn") from exc
        if self.model_path is not None and Path(self.model_path).suffix == ".joblib":
            problem = "is a joblib file: reading one runs what is in it"
            raise ConfigError("model_path", str(self.model_path), problem, "use safetensors")
        super().__post_init__()
        if self.model is None and any(map(is_array, (self.model_params or {}).values())):
            self.model, self.model_params = FirstArrays(self._first), self.settled

    @property
    def settled(self) -> dict[str, Scalar]:
        """The parameters that are no arrays."""
        given = self.model_params or {}
        return {name: scalar(name, value) for name, value in given.items() if not is_array(value)}

    def first_model(self) -> tuple[TensorSet, Framework]:
        """Return the arrays. Raises ConfigError."""
        given = self.model_params or {}
        arrays: dict[str, object] = {
            name: np.asarray(value) for name, value in given.items() if is_array(value)
        }
        model = self.model if self.model is not None else (arrays or self._zeros())
        return load_model(model, self.model_path or self.initial_ckpt)

    def algorithm(self) -> Algorithm:
        """Return averaging, with the settled parameters for every site."""
        return Settled(self.settled)

    def files(self, run: Run) -> Mapping[str, Callable[[], Content]]:
        """Return the parameters as a joblib file."""
        if run.model is None:
            return {}
        return {FILE: partial(saved, {**self.settled, **run.model.numpy()})}

    def _zeros(self) -> dict[str, Array] | None:
        classes, features = self.settled.get("n_classes"), self.n_features
        if self.model_path is not None or self.initial_ckpt is not None:
            return None
        if not isinstance(classes, int) or not isinstance(features, int) or features < 1:
            hint = "add coef and intercept as arrays, or n_features= and an n_classes"
            shown = sorted(self.model_params or {})
            raise ConfigError("model_params", shown, "has no array to be averaged", hint)
        rows = 1 if classes <= 2 else classes  # as scikit-learn has them
        return {"coef": np.zeros((rows, features)), "intercept": np.zeros(rows)}


def is_array(value: object) -> bool:
    """Return whether a parameter is averaged."""
    return isinstance(value, np.ndarray | list | tuple)


def scalar(name: str, value: object) -> Scalar:
    """Return a parameter that every site is told. Raises ConfigError."""
    if value is not None and not isinstance(value, str | int | float | bool):
        kind = type(value).__name__
        raise ConfigError(f"model_params.{name}", value, f"{kind} is no array, number or text")
    return value


def saved(params: Mapping[str, object]) -> Content:
    """Return params as the content of a joblib file."""
    import joblib

    values = {name: np.asarray(v) if is_array(v) else v for name, v in params.items()}
    arrays = [np.ascontiguousarray(v) for v in values.values() if isinstance(v, np.ndarray)]
    file = Pieces([array.reshape(-1).view(np.uint8).data for array in arrays])
    joblib.dump(values, file)
    return file.chunks
