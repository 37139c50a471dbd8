"""A small network, and digits that are not the same at every site."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

__all__ = ["Net", "accuracy", "batches", "data_of"]

HELD_OUT = 297  # of 1797 pictures, to judge the model with; the others are shared out


class Net(nn.Sequential):
    """Two layers."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def data_of(site: int, sites: int) -> tuple[torch.Tensor, ...]:
    """Return a site's pictures and labels, and those to judge with.

    Some digits are frequent at some sites and rare at others.
    """
    found = load_digits()
    pictures = torch.tensor(found.data, dtype=torch.float32) / 16
    labels = torch.tensor(found.target)
    # The share of each digit that a site has is drawn anew: a Dirichlet distribution, alpha 0.3.
    rng = np.random.default_rng(5)
    shares = rng.dirichlet([0.3] * sites, size=10).cumsum(axis=1)
    place = torch.tensor(rng.random(len(labels))[:, None] > shares[labels]).sum(1)
    own = (place == site) & (torch.arange(len(labels)) >= HELD_OUT)
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
