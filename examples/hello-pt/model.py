"""A small convolutional network for pictures of 8 by 8 pixels; job and sites share it."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["Net"]


class Net(nn.Module):
    """Two convolutions and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classify = nn.Linear(32 * 2 * 2, 10)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return a score for each digit."""
        return self.classify(self.features(pictures).flatten(1))
