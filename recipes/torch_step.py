"""PyTorch's optimizers and schedulers on the server.

The pseudo-gradient of a round is x_t - mean_t, so that SGD with a rate of 1 lands on the mean. Held
beside the model and the mean: PyTorch's own copy of the trained tensors, their gradients while it
steps, and the optimizer's state. All of it is float32 where the model is narrower: in half
precision an optimizer's smallest terms are zeros, and its quotients no numbers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

from flare_async.errors import ConfigError, MissingExtra
from flare_async.jobs.models import instance_of
from flare_async.recipes.schedules import Schedule
from flare_async.recipes.server_step import private_bytes
from flare_async.transfer.capture import as_tensor
from flare_async.transfer.dtypes import torch_dtype
from flare_async.transfer.tensors import TensorSet

if TYPE_CHECKING:
    import torch

__all__ = ["TorchSchedule", "TorchStep", "torch_optimizer"]

FLOAT32: Final = 4  # bytes of a value


class TorchStep:
    """A PyTorch optimizer over copies of the tensors ``names`` of ``model``.

    Raises:
        ConfigError: ``config`` describes no optimizer.
        MissingExtra: torch is not installed.
    """

    def __init__(
        self,
        config: Mapping[str, object],
        schedule: Callable[[float], Schedule],
        model: TensorSet,
        names: Iterable[str],
        device: str | None = None,
    ) -> None:
        self._device = device or "cpu"
        self._params = {
            name: _parameter(model, name).to(self._device).requires_grad_() for name in names
        }
        self._optimizer = torch_optimizer(config, list(self._params.values()))
        self._rate = float(self._optimizer.param_groups[0]["lr"])
        self._schedule = schedule(self._rate)
        self._steps = 0

    def step(self, model: TensorSet, mean: TensorSet) -> TensorSet:
        """Return the next model; tensors without a step are the mean's."""
        import torch

        rate = self._rate * self._schedule.factor(self._steps)
        self._optimizer.param_groups[0]["lr"] = rate
        for name, param in self._params.items():
            param.data.copy_(_parameter(model, name))
            param.grad = param.detach() - _parameter(mean, name).to(self._device)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        views = dict(mean)
        for name, param in self._params.items():
            target = private_bytes(mean[name], model[name])
            kind = torch_dtype(model.spec(name).dtype)
            moved = param.detach().cpu().to(kind).contiguous()
            target[:] = moved.flatten().view(torch.uint8).numpy()
            views[name] = target.data
        self._steps += 1
        return TensorSet.from_views(mean.specs, views, mean.aliases)


class TorchSchedule:
    """A PyTorch scheduler as a ``Schedule``: it drives an optimizer of nothing, step by step.

    ``rate`` is the learning rate that it starts from.

    Raises:
        ConfigError: ``config`` describes no scheduler.
        MissingExtra: torch is not installed.
    """

    def __init__(self, config: Mapping[str, object], rate: float) -> None:
        try:
            import torch
        except ImportError as exc:
            raise MissingExtra("torch", "torch") from exc
        self._optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)
        given = {**_args("lr_scheduler_args", config), "optimizer": self._optimizer}
        made = _made("lr_scheduler_args", {**config, "args": given})
        if not isinstance(made, torch.optim.lr_scheduler.LRScheduler):
            raise ConfigError("lr_scheduler_args", _path(config), "is no scheduler of PyTorch's")
        self._scheduler = made
        self._rate = rate
        self._factors = [self._now()]
        try:
            self.factor(1)
        except TypeError as exc:
            problem = f"goes by more than rounds: {exc}"
            raise ConfigError("lr_scheduler_args", _path(config), problem) from exc

    def factor(self, steps: int) -> float:
        """Return the rate after so many steps, in parts of the first one."""
        while len(self._factors) <= steps:
            self._optimizer.step()
            self._scheduler.step()
            self._factors.append(self._now())
        return self._factors[steps]

    def _now(self) -> float:
        return float(self._optimizer.param_groups[0]["lr"]) / self._rate


def torch_optimizer(
    config: Mapping[str, object], params: list[torch.Tensor]
) -> torch.optim.Optimizer:
    """Return the optimizer that ``{"class_path": ..., "args": {...}}`` describes.

    Raises:
        ConfigError: it describes none.
        MissingExtra: torch is not installed.
    """
    try:
        import torch
    except ImportError as exc:
        raise MissingExtra("torch", "torch") from exc
    given = {**_args("optimizer_args", config), "params": params}
    made = _made("optimizer_args", {**config, "args": given})
    if not isinstance(made, torch.optim.Optimizer):
        raise ConfigError("optimizer_args", _path(config), "is no optimizer of PyTorch's")
    closure = inspect.signature(made.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ConfigError(
            "optimizer_args", _path(config), "computes losses of its own: use another"
        )
    return made


def _parameter(tensors: TensorSet, name: str) -> torch.Tensor:
    value = as_tensor(tensors.spec(name), np.frombuffer(tensors[name], np.uint8).copy())
    return value.float() if value.itemsize < FLOAT32 else value


def _made(field: str, config: Mapping[str, object]) -> object:
    try:
        return instance_of(config)
    except (ConfigError, ValueError) as exc:
        raise ConfigError(field, _path(config), f"cannot be made: {exc}") from exc


def _args(field: str, config: Mapping[str, object]) -> Mapping[str, object]:
    args = config.get("args") or {}
    if not isinstance(args, Mapping):
        raise ConfigError(f"{field}.args", args, "a dict is needed")
    return args


def _path(config: Mapping[str, object]) -> object:
    return config.get("class_path") or config.get("path")
