"""A base of recipes that must know which tensors of their model are trained."""

from __future__ import annotations

from dataclasses import dataclass

from flare_async.errors import ConfigError
from flare_async.jobs.checkpoints import FIXED, names_in
from flare_async.jobs.work import Framework
from flare_async.recipes.model_checks import check_excluded
from flare_async.recipes.model_recipe import ModelRecipe
from flare_async.recipes.server_step import stepped_names
from flare_async.recipes.trained import instantiated, trainable_of
from flare_async.transfer.precision import excluded_names
from flare_async.transfer.tensors import TensorSet

__all__ = ["TrainedModelRecipe"]


@dataclass(kw_only=True, eq=False)
class TrainedModelRecipe(ModelRecipe):
    """A ``ModelRecipe`` whose ``stepped`` are the tensors that an optimizer moves."""

    def first_model(self) -> tuple[TensorSet, Framework]:
        """Return the first model, and take note of what is trained. Raises ConfigError."""
        given = self.model
        self.model = instantiated(given)
        try:
            tensors, framework = super().first_model()
            check_excluded(self.exclude_vars, tensors)
            self._trainable = self._trained_of(tensors)
            excluded = excluded_names(tensors, self.exclude_vars)
            self.stepped = stepped_names(tensors, self._trainable, excluded)
            if not self.stepped:
                raise ConfigError("model", type(self.model).__name__, "has nothing that is trained")
        finally:
            self.model = given  # an instance of ours ends here
        return tensors, framework

    @property
    def trainable(self) -> frozenset[str]:
        """The names of the model's tensors that are trained."""
        return self._trainable

    def _trained_of(self, tensors: TensorSet) -> frozenset[str]:
        if self.model is None and self.initial_ckpt is not None:
            fixed = names_in(self.initial_ckpt, FIXED)
            if fixed is not None:
                return frozenset(name for name in tensors if name not in fixed)
        return trainable_of(self.model, tensors)
