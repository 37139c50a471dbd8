"""A small network with batch normalisation, and pictures that look different at every site."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import nn

__all__ = ["Net", "accuracy", "batches", "data_of"]

HELD_OUT = 297  # of 1797 pictures, to judge the model with; the others are shared out


class Net(nn.Sequential):
    """Two layers, and batch normalisation between them."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))


def data_of(site: int, sites: int) -> tuple[torch.Tensor, ...]:
    """Return a site's pictures and labels, and those to judge with.

    All sites have all digits; from site to site they are paler and brighter.
    """
    found = load_digits()
    pictures = torch.tensor(found.data, dtype=torch.float32) / 16
    labels = torch.tensor(found.target)
    pictures = pictures / (1 + site) + 0.5 * site
    own = slice(HELD_OUT + site, None, sites)
    return pictures[own], labels[own], pictures[:HELD_OUT], labels[:HELD_OUT]


def accuracy(net: nn.Module, pictures: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the part of the pictures that the network classifies correctly."""
    net.eval()
    with torch.no_grad():
        return (net(pictures).argmax(1) == labels).float().mean().item()


def batches(
    pictures: torch.Tensor, labels: torch.Tensor, site: int, number: int, epochs: int
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the batches of a round, in an order that depends on site and round only."""
    draw = torch.Generator().manual_seed(1000 * site + number)
    return [
        (pictures[rows], labels[rows])
        for _ in range(epochs)
        for rows in torch.randperm(len(labels), generator=draw).split(16)
    ]
