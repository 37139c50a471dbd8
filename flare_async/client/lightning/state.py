"""What Lightning forgets between two fits: the states of optimizers, schedulers and scaler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from flare_async.client.lightning.base import Callback

if TYPE_CHECKING:
    import pytorch_lightning as pl

__all__ = ["RestoreState"]


class RestoreState(Callback):  # type: ignore[misc, unused-ignore]
    """Keeps the states at the end of a fit, in main memory, and loads them at the next start.

    They belong to this trainer: one that is made anew each round has none.

    A scheduler that was made for the length of one fit has come to its end then; such a script
    patches with ``restore_state=False``.
    """

    def __init__(self) -> None:
        self._optimizers: list[object] = []
        self._schedulers: list[object] = []
        self._scaler: object = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Load what was kept, if there are as many optimizers and schedulers as then."""
        del pl_module
        if len(self._optimizers) == len(trainer.optimizers):
            for optimizer, state in zip(trainer.optimizers, self._optimizers, strict=True):
                optimizer.load_state_dict(state)
        configs = trainer.lr_scheduler_configs
        if len(self._schedulers) == len(configs):
            for config, state in zip(configs, self._schedulers, strict=True):
                config.scheduler.load_state_dict(state)
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None and self._scaler is not None:
            scaler.load_state_dict(self._scaler)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the states."""
        del pl_module
        self._optimizers = [_kept(one.state_dict()) for one in trainer.optimizers]
        configs = trainer.lr_scheduler_configs
        self._schedulers = [_kept(config.scheduler.state_dict()) for config in configs]
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self._scaler = None if scaler is None else _kept(scaler.state_dict())


def _kept(value: object) -> object:
    """Return a copy that nobody else writes to, its tensors in main memory."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _kept(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_kept(item) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return value
