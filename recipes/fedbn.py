"""FedBN: federated averaging of everything but the layers for batch normalisation.

Li et al., "FedBN: Federated Learning on Non-IID Features via Local Batch Normalization", ICLR 2021,
algorithm 1. Sites average all tensors as in FedAvg, but those of normalisation layers (scale, shift
and running statistics) stay where they are: w_{k,BN} is only ever the site's own.

The server leaves them out of its sum, so the global model keeps its first values for them. What
comes with a task is therefore not a site's own: ``LocalTensors`` of ``flare_async.client.fedbn``
puts the site's back before the model is used. The site's option ``"local_vars"`` names them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from flare_async.errors import ConfigError
from flare_async.jobs.recipe_arguments import recipe_arguments
from flare_async.recipes.model_recipe import ModelRecipe
from flare_async.recipes.trained import BUFFERS, instantiated, is_module
from flare_async.transfer.keras_weights import has_weights

if TYPE_CHECKING:
    from torch import nn

__all__ = ["LOCAL_VARS", "FedBNRecipe", "normalisation_layers"]

LOCAL_VARS: Final = "local_vars"


@recipe_arguments
@dataclass(kw_only=True, eq=False)
class FedBNRecipe(ModelRecipe):
    """FedAvg without normalisation layers; see ``ModelRecipe`` for the other arguments.

    The layers are found in the model: batch and instance normalisation of PyTorch, batch
    normalisation of Keras, and in a dict whatever has a ``running_mean`` or ``moving_mean``.
    ``exclude_vars`` adds tensors that stay local too, such as those of other normalisations.

    Raises:
        ConfigError: an argument cannot be used, or nothing would stay local.
    """

    name: str = "fedbn"

    def __post_init__(self) -> None:
        given, known = self.model, (self.train_config or {}).get(LOCAL_VARS)
        if known is None or known != self.exclude_vars:  # a copy of a recipe has them already
            self._exclude_layers()
        super().__post_init__()
        if isinstance(given, Mapping) and not isinstance(self.model, Mapping):
            self.model = given  # an instance of ours ends here

    def _exclude_layers(self) -> None:
        self.model = instantiated(self.model)
        given = self.initial_model if self.model is None else self.model
        layers = sorted(normalisation_layers(given))
        patterns = [f"^{re.escape(layer)}(?:[./]|$)" for layer in layers]
        if self.exclude_vars is not None:
            patterns.append(f"(?:{self.exclude_vars})")
        if not patterns:
            hint = "name the tensors that stay local in exclude_vars="
            shown = f"<{type(given).__name__}>"
            raise ConfigError("model", shown, "has no layer for batch normalisation", hint)
        self.exclude_vars = "|".join(patterns)
        self.train_config = {**(self.train_config or {}), LOCAL_VARS: self.exclude_vars}


def normalisation_layers(model: object) -> set[str]:
    """Return the names of the layers for batch (or instance) normalisation."""
    if is_module(model):
        kind = sys.modules["torch"].nn.modules.batchnorm._NormBase
        modules = cast("nn.Module", model).named_modules()
        return {name for name, module in modules if isinstance(module, kind) and name}
    if has_weights(model):
        layers = cast("Iterable[object]", getattr(model, "layers", ()))
        kinds = {str(getattr(layer, "name", "")): type(layer).__name__ for layer in layers}
        return {name for name, kind in kinds.items() if "BatchNormalization" in kind and name}
    names = model if isinstance(model, dict) else ()
    return {
        re.split(r"[./](?=[^./]*$)", name)[0]
        for name in names
        if isinstance(name, str) and BUFFERS.search(name) and re.search("[./]", name)
    }
