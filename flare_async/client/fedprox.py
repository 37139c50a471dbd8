"""FedProx at a site: the term that holds a local model near the global one.

Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020: a site minimises

    F_k(w) + mu / 2 * ||w - w_t||^2

where w_t is the global model that it received. Only what is trained counts, not running means.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["PTFedProxLoss", "TFFedProxLoss"]


class PTFedProxLoss:
    """The proximal term for PyTorch, to be added to a loss.

    ``mu`` is the weight; ``FedProxRecipe`` gives sites its own as ``model.meta["fedprox_mu"]``.
    The copy of the global model is never given a gradient.

    Raises:
        ValueError: ``mu`` is negative or no finite number.
    """

    def __init__(self, mu: float = 0.01) -> None:
        self.mu = checked_mu(mu)

    def __call__(self, input: nn.Module, target: nn.Module) -> torch.Tensor:  # noqa: A002
        """Return the term: ``input`` is the local model, ``target`` the global one as it came.

        Raises:
            ValueError: they do not have the same parameters.
        """
        import torch

        total = torch.zeros(())
        pairs = zip(input.named_parameters(), target.named_parameters(), strict=True)
        for (name, local), (other, fixed) in pairs:
            if name != other:
                raise ValueError(f"parameter {name!r} stands where the global model has {other!r}")
            term = torch.sum((local - fixed.detach()) ** 2)
            total = total.to(term.device) + term
        return self.mu / 2 * total


class TFFedProxLoss:
    """A loss for ``keras.Model.compile``: ``loss_fun`` with the proximal term.

    The two lists are the trainable weights of the local model, which stay live, and those of the
    global one as it came: arrays, or variables of another model.

    Raises:
        ValueError: ``mu`` is negative, or the lists differ in length.
    """

    def __init__(
        self,
        local_model_weights: Sequence[object],
        global_model_weights: Sequence[object],
        mu: float,
        loss_fun: Callable[[object, object], object],
    ) -> None:
        if len(local_model_weights) != len(global_model_weights):
            sizes = f"{len(local_model_weights)} and {len(global_model_weights)}"
            raise ValueError(f"the models have {sizes} trainable weights")
        self.mu = checked_mu(mu)
        self.loss_fun = loss_fun
        self._pairs = tuple(zip(local_model_weights, global_model_weights, strict=True))

    def __call__(self, y_true: object, y_pred: object) -> object:
        """Return the loss with the term."""
        from keras import ops  # type: ignore[import-not-found]

        squares = [ops.sum(ops.square(ops.subtract(*pair))) for pair in self._pairs]
        return ops.add(self.loss_fun(y_true, y_pred), self.mu / 2 * sum(squares))


def checked_mu(mu: float) -> float:
    """Return the weight. Raises ValueError when it is negative or not finite."""
    if not 0 <= mu < math.inf:
        raise ValueError(f"mu={mu}: a number from 0 on is needed")
    return float(mu)
