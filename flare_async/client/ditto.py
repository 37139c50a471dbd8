"""Ditto at a site, for PyTorch: a personal model beside the global one.

Li et al., "Ditto: Fair and Robust Federated Learning Through Personalization", ICML 2021: each
local step of the personal model v, with the global model w_t as it was received, is

    v <- v - lr * (g(v) + lambda * (v - w_t))
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from flare_async.client.fedprox import PTFedProxLoss

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["PTDittoHelper"]


class PTDittoHelper:
    """A site's personal model; keep one as long as the job lives, in ``site.state`` or a variable.

    ``model`` is its first value, which is copied; ``ditto_lambda`` the weight of the term, given to
    sites as ``model.meta["ditto_lambda"]``.

    Raises:
        ValueError: ``ditto_lambda`` is negative or not finite.
    """

    def __init__(self, model: nn.Module, ditto_lambda: float = 0.1) -> None:
        self.model = copy.deepcopy(model)
        self.term = PTFedProxLoss(ditto_lambda)

    def local_train(
        self,
        train_loader: Iterable[tuple[torch.Tensor, torch.Tensor]],
        model_global: nn.Module,
        criterion: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        optimizer: torch.optim.Optimizer,
    ) -> int:
        """Take one step for each batch; return how many.

        ``model_global`` is the model as it was received, ``optimizer`` one of ``self.model``.
        """
        steps = 0
        self.model.train()
        for inputs, labels in train_loader:
            optimizer.zero_grad()
            loss = criterion(self.model(inputs), labels) + self.term(self.model, model_global)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            steps += 1
        return steps
