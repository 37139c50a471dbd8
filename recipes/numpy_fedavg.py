"""Federated averaging of one array: what NVFlare's users know as ``NumpyFedAvgRecipe``.

The equation is that of ``fedavg.py``. The model travels in float32 under the name ``numpy_key``;
``models/server.npy`` in the run folder is the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from flare_async.errors import ConfigError
from flare_async.jobs.models import load_model
from flare_async.jobs.pieces import Pieces
from flare_async.jobs.recipe import Content
from flare_async.jobs.recipe_arguments import recipe_arguments
from flare_async.jobs.run import Run
from flare_async.jobs.work import Framework
from flare_async.model import NPConstants
from flare_async.recipes.fedavg import FedAvgRecipe
from flare_async.transfer.capture import Array
from flare_async.transfer.tensors import TensorSet

__all__ = ["NumpyFedAvgRecipe"]

FILE: Final = "models/server.npy"


@recipe_arguments
@dataclass(kw_only=True, eq=False)
class NumpyFedAvgRecipe(FedAvgRecipe):
    """FedAvg whose ``model`` is an array or a list of numbers; ``initial_ckpt`` may be ``.npy``."""

    def first_model(self) -> tuple[TensorSet, Framework]:
        """Return the one array. Raises ConfigError."""
        if self.model is None:
            return load_model(None, self.initial_ckpt)
        return load_model({NPConstants.NUMPY_KEY: self._array(self.model)}, self.initial_ckpt)

    def files(self, run: Run) -> Mapping[str, Callable[[], Content]]:
        """Return the last model as a NumPy file."""
        model = run.model
        if model is None or NPConstants.NUMPY_KEY not in model:
            return {}
        return {FILE: partial(saved, model.numpy()[NPConstants.NUMPY_KEY])}

    def _array(self, model: object) -> Array:
        given = model
        if isinstance(model, Mapping) and set(model) == {NPConstants.NUMPY_KEY}:
            given = model[NPConstants.NUMPY_KEY]  # as it is after a former recipe of this one
        try:
            array: Array = np.asarray(given, dtype=np.float32)
        except (TypeError, ValueError) as exc:
            kind = f"<{type(model).__name__}>"
            raise ConfigError("model", kind, f"is no array: {exc}", "give numbers") from exc
        return array


def saved(array: Array) -> Content:
    """Return an array as the content of a NumPy file, in float32."""
    values = np.ascontiguousarray(array, np.float32)
    file = Pieces([values.reshape(-1).view(np.uint8).data])
    np.save(file, values.reshape(array.shape), allow_pickle=False)
    return file.chunks
