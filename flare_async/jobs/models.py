"""What a recipe's ``model=`` may be, as the tensors that a server holds.

This runs on the submitter's side: it is one of the three places that import a class by its name.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from flare_async.errors import ConfigError, TensorFormatError
from flare_async.jobs.checkpoints import framework_in, read_checkpoint
from flare_async.jobs.work import Framework
from flare_async.transfer.keras_weights import has_weights, layer_weights_of, weights_of
from flare_async.transfer.layers import LayerWeights, flattened
from flare_async.transfer.tensors import TensorSet

if TYPE_CHECKING:
    from torch import nn

__all__ = ["load_model"]

FORMS = "give a torch.nn.Module, a Keras model, a dict of arrays or tensors, or arrays"


def load_model(
    model: object, checkpoint: str | Path | None = None, *, layered: bool = False
) -> tuple[TensorSet, Framework]:
    """Return a private copy of the model's tensors and the framework they belong to.

    ``checkpoint`` is a safetensors or PyTorch file whose tensors replace the model's; alone it is
    the model.
    ``layered`` is for sites that have a Keras model's arrays in lists, by the names of its layers.

    Raises:
        ConfigError: it is no model; the hint lists what is.
        WorkspaceError: the file cannot be read.
        TensorFormatError: the file holds no tensors, or more than tensors.
    """
    if model is None and checkpoint is None:
        raise ConfigError("model", None, "is missing", FORMS)
    stored = None if checkpoint is None else read_checkpoint(checkpoint)
    if model is None and stored is not None:
        return stored, installed(framework_in(str(checkpoint)))
    params = params_of(model, layered=layered)
    try:
        tensors = TensorSet.from_params(params).copy()
    except TensorFormatError as exc:
        raise ConfigError("model", shown(model), str(exc), FORMS) from exc
    if not tensors:
        raise ConfigError("model", shown(model), "has no tensors", FORMS)
    framework = framework_of(params)
    if stored is None:
        return tensors, framework
    differences = tensors.same_specs(stored)
    if differences:
        problem = "does not fit the model: " + "; ".join(differences[:5])
        raise ConfigError("initial_ckpt", str(checkpoint), problem)
    return stored, framework


def installed(framework: Framework) -> Framework:
    """Return the framework; NumPy where a file is of PyTorch and nobody here has that."""
    lacking = framework == "torch" and importlib.util.find_spec("torch") is None
    return "numpy" if lacking else framework


def framework_of(params: Mapping[str, object]) -> Framework:
    """Return what the params are made for."""
    if isinstance(params, LayerWeights):
        return "tensorflow"
    return "torch" if any(is_torch(item) for item in params.values()) else "numpy"


def params_of(model: object, *, layered: bool = False) -> Mapping[str, object]:
    """Return the named parameters of any accepted form. Raises ConfigError."""
    if isinstance(model, Mapping) and ("class_path" in model or "path" in model):
        model = instance_of(model)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        return cast("Mapping[str, object]", cast("nn.Module", model).state_dict())
    if has_weights(model):
        if layered and not isinstance(model, Sequence):
            return LayerWeights(layer_weights_of(model))
        return weights_of(model)
    if isinstance(model, Mapping):
        listed = layered and any(isinstance(value, list | tuple) for value in model.values())
        return LayerWeights(flattened(model)) if listed else model
    if isinstance(model, np.ndarray | list):
        array = np.asarray(model, dtype=np.float32) if isinstance(model, list) else model
        return {"numpy_key": array}
    raise ConfigError("model", shown(model), "is no model", FORMS)


def instance_of(config: Mapping[str, object]) -> object:
    """Return the instance that ``{"class_path": "package.Class", "args": {...}}`` describes.

    Raises:
        ConfigError: there is no such class, or it cannot be called with these arguments.
    """
    path = config.get("class_path") or config.get("path")
    args = config.get("args") or {}
    module_name, _, name = str(path).rpartition(".")
    if not isinstance(path, str) or not module_name or not isinstance(args, Mapping):
        raise ConfigError("model.class_path", path, "is not 'package.module.Class'")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as exc:
        raise ConfigError("model.class_path", path, f"cannot be imported: {exc}") from exc
    try:
        made: object = found(**args)
    except TypeError as exc:
        raise ConfigError("model.args", dict(args), str(exc)) from exc
    return made


def is_torch(value: object) -> bool:
    """Whether ``value`` is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def shown(model: object) -> str:
    """Return a short name of what was given, for messages."""
    return f"<{type(model).__name__}>" if not isinstance(model, str | int | float) else repr(model)
