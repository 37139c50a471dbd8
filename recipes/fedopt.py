"""FedOpt: the mean of the sites is a direction, and the server has an optimizer of its own.

Reddi et al., "Adaptive Federated Optimization", ICLR 2021, algorithm 1 with the server's optimizers
of algorithm 2. In round t the sites start from x_t and return x_t^k; with the weights of FedAvg

    d_t = sum_k (n_k / n) x_t^k - x_t        and        x_{t+1} = optimizer(x_t, -d_t),

that is, -d_t stands for the gradient. ``server_optimizers`` has the rules: SGD (with a rate of 1
and no momentum it is FedAvg), Adagrad, Adam and Yogi. Buffers, such as running means, and counters
are averaged as in FedAvg.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from flare_async.jobs.memory_demand import ModelDemand
from flare_async.jobs.recipe_arguments import recipe_arguments
from flare_async.recipes.algorithm import Algorithm, Averaged
from flare_async.recipes.optimizer_args import OptimizerChoice
from flare_async.recipes.schedules import Schedule
from flare_async.recipes.server_optimizers import OptimizerRule
from flare_async.recipes.server_step import ServerStep
from flare_async.recipes.trained_recipe import TrainedModelRecipe
from flare_async.transfer.kernel import accumulator_dtype, values_nbytes
from flare_async.transfer.tensors import TensorSet

__all__ = ["FedOptRecipe"]


@recipe_arguments
@dataclass(kw_only=True, eq=False)
class FedOptRecipe(TrainedModelRecipe):
    """FedAvg with an optimizer at the server; see ``ModelRecipe`` for the other arguments.

    ``optimizer_args`` is ``{"class_path": ..., "args": {...}}`` or a rule itself, by default SGD
    with a rate of 1. ``"sgd"``, ``"adam"``, ``"yogi"`` and ``"adagrad"`` are our own; any other
    path, such as ``"torch.optim.AdamW"``, is PyTorch's. ``lr_scheduler_args`` likewise:
    ``"CosineDecay"``, ``"StepDecay"``, ``"ExponentialDecay"`` or a path in PyTorch.
    ``"{num_rounds}"`` among the arguments stands for the number of rounds. ``device`` is where
    PyTorch's optimizer computes.

    Raises:
        ConfigError: an argument cannot be used; the error names it.
        MissingExtra: an optimizer of PyTorch's is asked for, and torch is not installed.
    """

    name: str = "fedopt"
    optimizer_args: Mapping[str, object] | OptimizerRule | None = None
    lr_scheduler_args: Mapping[str, object] | Schedule | None = None
    device: str | None = None
    source_model: str = "model"  # accepted: there is one model

    def __post_init__(self) -> None:
        super().__post_init__()
        self._started()

    def algorithm(self) -> Algorithm:
        """Return the server's step with an optimizer that has no state yet."""
        return Stepping(self._started())

    def demand(self) -> ModelDemand | None:
        """Return what FedAvg needs, and the optimizer's state."""
        of_mean = super().demand()
        choice = self._choice()
        slots = 4 if choice.rule is None else len(choice.rule.slots)
        if of_mean is None:
            return None
        return replace(of_mean, accumulator=of_mean.accumulator + slots * self._slot_nbytes())

    def _slot_nbytes(self) -> int:
        """Return the bytes of one number for each trained value."""
        total = 0
        for name in self.stepped:
            spec = self.initial.spec(name)
            width = np.dtype(accumulator_dtype(spec, self.initial.nbytes)).itemsize
            total += spec.nbytes // values_nbytes(spec.dtype) * width
        return total

    def _choice(self) -> OptimizerChoice:
        return OptimizerChoice(
            self.optimizer_args, self.lr_scheduler_args, self.num_rounds, self.device
        )

    def _started(self) -> ServerStep:
        return self._choice().started(self.initial, self.stepped)


class Stepping(Algorithm):
    """The optimizer's step, with its state, in place of the mean."""

    def __init__(self, optimizer: ServerStep) -> None:
        self._optimizer = optimizer

    def step(self, model: TensorSet, average: Averaged) -> TensorSet:
        """Return where the optimizer goes."""
        return self._optimizer.step(model, average.model)
