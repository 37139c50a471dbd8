"""The classes of PyTorch Lightning that ours extend, from whichever package has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flare_async.errors import MissingExtra

if TYPE_CHECKING:
    import pytorch_lightning as pl

    Callback = pl.Callback
    Logger = pl.loggers.Logger
else:
    try:
        from pytorch_lightning import Callback
        from pytorch_lightning.loggers import Logger
    except ImportError:
        try:  # the same classes in the package that has them under another name
            from lightning.pytorch import Callback
            from lightning.pytorch.loggers import Logger
        except ImportError as exc:
            raise MissingExtra("pytorch-lightning", "lightning") from exc

__all__ = ["Callback", "Logger"]
