"""A small network for pictures of 8 by 8 pixels, as a Lightning module."""

from __future__ import annotations

import torch
from pytorch_lightning import LightningModule
from torch import nn
from torch.nn import functional

__all__ = ["LitNet"]


class LitNet(LightningModule):
    """Two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return a score for each digit."""
        return self.net(pictures)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        """Return the loss of a batch."""
        pictures, labels = batch
        return functional.cross_entropy(self(pictures), labels)

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> None:
        """Note how many pictures are classified correctly, over all ranks."""
        pictures, labels = batch
        accuracy = (self(pictures).argmax(1) == labels).float().mean()
        self.log("val_acc", accuracy, sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer; its momentum is kept from round to round."""
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
