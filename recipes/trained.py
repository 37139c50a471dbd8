"""Which tensors of a model are trained: an optimizer moves them, all others are averaged."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, cast

from flare_async.jobs.models import instance_of
from flare_async.transfer.keras_weights import has_weights, weights_of

if TYPE_CHECKING:
    from torch import nn

__all__ = ["BUFFERS", "fixed_in_layers", "instantiated", "is_module", "trainable_of"]

BUFFERS: Final = re.compile(
    r"(?:^|[./])(?:running_mean|running_var|num_batches_tracked|moving_mean|moving_variance)$"
)


def instantiated(model: object) -> object:
    """Return the instance that a configuration describes, and anything else as it is.

    Raises:
        ConfigError: it describes nothing that can be made.
    """
    if isinstance(model, Mapping) and ("class_path" in model or "path" in model):
        return instance_of(model)
    return model


def trainable_of(model: object, names: Iterable[str]) -> frozenset[str]:
    """Return those of ``names`` that are trained.

    Models of PyTorch and Keras say it themselves. Of others, what is called as their running
    statistics are is not trained; all else is.
    """
    if is_module(model):
        own = cast("nn.Module", model).named_parameters(remove_duplicate=False)
        return frozenset(name for name, parameter in own if parameter.requires_grad)
    fixed = fixed_in_layers(model)
    return frozenset(name for name in names if name not in fixed and not BUFFERS.search(name))


def fixed_in_layers(model: object) -> frozenset[str]:
    """Return the names, by path, and by layer and position, of weights without a gradient.

    Of what is no Keras model there are none.
    """
    found = fixed_by_path(model)
    layers = getattr(model, "layers", ()) if has_weights(model) else ()
    for layer in cast("Iterable[object]", layers):
        trained = {id(weight) for weight in getattr(layer, "trainable_weights", ())}
        weights = enumerate(getattr(layer, "weights", ()))
        name = getattr(layer, "name", "")
        found |= {f"{name}/{at}" for at, weight in weights if id(weight) not in trained}
    return frozenset(found)


def fixed_by_path(model: object) -> set[str]:
    """Return the paths of a Keras model's weights without a gradient."""
    listed: Sequence[object] = getattr(model, "weights", ())
    if not has_weights(model) or isinstance(model, Sequence) or not listed:
        return set()
    trained = {id(weight) for weight in getattr(model, "trainable_weights", ())}
    pairs = zip(weights_of(model), listed, strict=False)
    return {name for name, weight in pairs if id(weight) not in trained}


def is_module(model: object) -> bool:
    """Whether ``model`` is a PyTorch model, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)
