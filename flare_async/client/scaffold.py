"""SCAFFOLD at a site, for PyTorch: steps that are corrected by control variates.

Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML 2020,
algorithm 1 with option II. With the site's control c_k, the server's c, and the received model x,

    y <- y - lr * (g(y) - c_k + c)          every local step
    c_k' = c_k - c + (x - y) / sum of lr    after the last one, and c_k' - c_k is sent

An optimizer of any kind takes the step with g(y); ``model_update`` then adds the correction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["AlgorithmConstants", "PTScaffoldHelper", "get_lr_values"]

Arrays: TypeAlias = dict[str, npt.NDArray[np.generic]]


class AlgorithmConstants:
    """Keys of ``FLModel.meta`` under which controls travel."""

    SCAFFOLD_CTRL_GLOBAL: Final = "scaffold_c_global"
    SCAFFOLD_CTRL_DIFF: Final = "scaffold_c_diff"


class PTScaffoldHelper:
    """A site's control and the steps of a round; keep one as long as the job lives.

    Each round: ``load_global_controls`` with what was received, ``get_params``, ``model_update``
    after every step of the optimizer, ``terms_update`` after the last, ``get_delta_controls`` for
    what is sent. Only parameters are corrected: running means and counters have no gradient.
    """

    def __init__(self) -> None:
        self.cnt = 0
        self._rates = 0.0
        self._global: dict[str, torch.Tensor] = {}
        self._local: dict[str, torch.Tensor] = {}
        self._extra: Arrays = {}
        self._delta: Arrays | None = None

    def init(self, model: nn.Module) -> None:
        """Begin with controls of zero for the parameters of ``model``."""
        self._global = {name: param.detach() * 0 for name, param in model.named_parameters()}
        self._local = {name: zero.clone() for name, zero in self._global.items()}

    def load_global_controls(self, weights: Mapping[str, object]) -> None:
        """Take the server's controls, arrays or tensors, as ``model.meta`` has them.

        Raises:
            ValueError: one is missing or has another shape.
        """
        import torch

        for name, own in self._global.items():
            if name not in weights:
                raise ValueError(f"control {name!r} is missing among {len(weights)}")
            given = torch.as_tensor(weights[name], dtype=own.dtype, device=own.device)
            if given.shape != own.shape:
                shapes = f"{tuple(given.shape)}, the parameter is {tuple(own.shape)}"
                raise ValueError(f"control {name!r} is {shapes}")
            self._global[name] = given.clone()
        self._extra = {
            name: np.zeros_like(torch.as_tensor(value).cpu().numpy())
            for name, value in weights.items()
            if name not in self._global
        }

    def get_params(self) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Begin a round; return the server's control and the site's own.

        Raises:
            ValueError: ``init`` was not called.
        """
        if not self._local:
            raise ValueError("call init(model) before the first round")
        self.cnt, self._rates, self._delta = 0, 0.0, None
        return self._global, self._local

    def model_update(
        self,
        model: nn.Module,
        curr_lr: float,
        c_global_para: Mapping[str, torch.Tensor],
        c_local_para: Mapping[str, torch.Tensor],
    ) -> None:
        """Correct the step that the optimizer has just taken with the rate ``curr_lr``."""
        import torch

        with torch.no_grad():
            for name, param in model.named_parameters():
                param.sub_(c_global_para[name] - c_local_para[name], alpha=curr_lr)
        self.cnt += 1
        self._rates += curr_lr

    def terms_update(
        self,
        model: nn.Module,
        curr_lr: float,
        c_global_para: Mapping[str, torch.Tensor],
        c_local_para: Mapping[str, torch.Tensor],
        model_global: nn.Module,
    ) -> None:
        """Renew the site's control; ``model_global`` is the model as it was received.

        The rates of all steps count, whatever ``curr_lr``, the last one, is.

        Raises:
            ValueError: no step was taken with a rate above 0.
        """
        if not self._rates > 0:
            raise ValueError(f"{self.cnt} steps with a rate of {curr_lr}: nothing was learnt")
        start = dict(model_global.named_parameters())
        delta, new = {}, {}
        for name, param in model.named_parameters():
            moved = (start[name].detach() - param.detach()) / self._rates
            new[name] = c_local_para[name] - c_global_para[name] + moved
            delta[name] = (new[name] - c_local_para[name]).cpu().numpy()
        self._local, self._delta = new, {**delta, **self._extra}

    def get_delta_controls(self) -> Arrays:
        """Return what to send: how the site's control has changed.

        Raises:
            ValueError: ``terms_update`` was not called in this round.
        """
        if self._delta is None:
            raise ValueError("call terms_update after the last step of the round")
        return self._delta


def get_lr_values(optimizer: torch.optim.Optimizer) -> list[float]:
    """Return the learning rate of each group of parameters."""
    return [float(group["lr"]) for group in optimizer.param_groups]
