"""SCAFFOLD at a site, for PyTorch: steps that are corrected by control variates.

Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML 2020,
algorithm 1 with option II. With the site's control c_k, the server's c, and the received model x,

    y <- y - lr * (g(y) - c_k + c)          every local step
    c_k' = c_k - c + (x - y) / sum of lr    after the last one, and c_k' - c_k is sent

An optimizer of any kind takes the step with g(y); ``model_update`` then adds the correction. The
site's control becomes c_k' when a later task says that the update was counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from flare_async.client.scaffold_control import AlgorithmConstants, SiteControl
from flare_async.model import FLModel

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["AlgorithmConstants", "PTScaffoldHelper", "get_lr_values"]

Arrays: TypeAlias = dict[str, npt.NDArray[np.generic]]


class PTScaffoldHelper:
    """A site's control and the steps of a round; keep one as long as the job lives.

    Each round: ``receive`` with the model as it came, ``get_params``, ``model_update`` after every
    step of the optimizer, ``terms_update`` after the last, ``get_delta_controls`` for what is sent.
    A script may call ``load_global_controls`` in the place of ``receive``. Only parameters are
    corrected: running means and counters have no gradient. Of these, only what is trained here and
    what the server has controls for.
    """

    def __init__(self) -> None:
        self.cnt = 0
        self._rates = 0.0
        self._global: dict[str, torch.Tensor] = {}
        self._own: SiteControl[torch.Tensor] = SiteControl({})
        self._extra: Arrays = {}
        self._delta: Arrays | None = None

    def init(self, model: nn.Module) -> None:
        """Begin with controls of zero for the parameters of ``model``."""
        trained = ((n, param) for n, param in model.named_parameters() if param.requires_grad)
        self._own = SiteControl({name: param.detach() * 0 for name, param in trained})
        self._global = {name: zero.clone() for name, zero in self._own.value.items()}

    def receive(self, model: FLModel, site: str) -> None:
        """Take what a model brings: the server's controls, and what became of the last update.

        ``site`` is this site's name.

        Raises:
            ValueError: a control has another shape, or there is none for any parameter.
        """
        controls = model.meta[AlgorithmConstants.SCAFFOLD_CTRL_GLOBAL]
        self._own.begin(model, site)
        self._load(cast("Mapping[str, object]", controls))

    def load_global_controls(self, weights: Mapping[str, object]) -> None:
        """Take the server's controls, arrays or tensors, as ``model.meta`` has them.

        What became of the last update is read from the script's current model.

        Raises:
            ValueError: one has another shape, there is none for any parameter, or no script calls.
        """
        self._own.begin_script()
        self._load(weights)

    def _load(self, weights: Mapping[str, object]) -> None:
        import torch

        known = self._own.value
        if weights and known and not known.keys() & weights.keys():
            shown = f"{next(iter(weights))!r}, ... are controls of another model"
            raise ValueError(f"{shown}: here are {next(iter(known))!r}, ...")
        self._global = {}
        for name, own in known.items():
            if name not in weights:
                continue  # excluded from what is averaged
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
        if not self._own.value:
            raise ValueError("call init(model) before the first round")
        self.cnt, self._rates, self._delta = 0, 0.0, None
        return self._global, dict(self._own.value)

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
            for name, param in corrected(model, c_global_para):
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
        """Compute the site's new control; ``model_global`` is the model as it was received.

        The rates of all steps count, whatever ``curr_lr``, the last one, is.

        Raises:
            ValueError: no step was taken with a rate above 0.
        """
        if not self._rates > 0:
            raise ValueError(f"{self.cnt} steps with a rate of {curr_lr}: nothing was learnt")
        start = dict(model_global.named_parameters())
        delta, new = {}, dict(c_local_para)
        for name, param in corrected(model, c_global_para):
            moved = (start[name].detach() - param.detach()) / self._rates
            new[name] = c_local_para[name] - c_global_para[name] + moved
            delta[name] = (new[name] - c_local_para[name]).cpu().numpy()
        self._own.renew(new)
        self._delta = {**delta, **self._extra}

    def get_delta_controls(self) -> Arrays:
        """Return what to send: how the site's control has changed.

        Raises:
            ValueError: ``terms_update`` was not called in this round.
        """
        if self._delta is None:
            raise ValueError("call terms_update after the last step of the round")
        return self._delta

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the site's control, to be kept in a file where a process ends with its task."""
        return {name: value.detach().clone() for name, value in self._own.state().items()}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take the control that ``state_dict`` gave, after ``init``.

        Raises:
            ValueError: it is that of another model.
        """
        self._own = self._own.taking(state, lambda value, own: value.detach().to(own))


def corrected(
    model: nn.Module, controls: Mapping[str, torch.Tensor]
) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """Yield the parameters that have a control."""
    return ((name, param) for name, param in model.named_parameters() if name in controls)


def get_lr_values(optimizer: torch.optim.Optimizer) -> list[float]:
    """Return the learning rate of each group of parameters."""
    return [float(group["lr"]) for group in optimizer.param_groups]
