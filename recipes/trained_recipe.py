"""A base of recipes that must know which tensors of their model are trained."""

from __future__ import annotations

from dataclasses import dataclass

from flare_async.jobs.work import Framework
from flare_async.recipes.model_recipe import ModelRecipe
from flare_async.recipes.server_step import stepped_names
from flare_async.recipes.trained import instantiated, trainable_of
from flare_async.transfer.precision import excluded_names
from flare_async.transfer.tensors import TensorSet

__all__ = ["TrainedModelRecipe"]


@dataclass(kw_only=True, eq=False)
class TrainedModelRecipe(ModelRecipe):
    """A ``ModelRecipe`` whose ``stepped`` are the tensors that an optimizer moves."""

    def load(self) -> tuple[TensorSet, Framework]:
        """Return the first model, and take note of what is trained. Raises ConfigError."""
        self.model = instantiated(self.model)
        tensors, framework = super().load()
        self._trainable = trainable_of(self.model, tensors)
        excluded = excluded_names(tensors, self.exclude_vars)
        self.stepped = stepped_names(tensors, self._trainable, excluded)
        return tensors, framework
