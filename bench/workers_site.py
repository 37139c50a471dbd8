"""What a site of ``bench.workers`` trains: a small convolutional network on its digits."""

from __future__ import annotations

import torch
from torch import nn

from flare_async import FLModel
from flare_async.jobs.site import Site
from flare_async.sim.dataset import split_digits

__all__ = ["network", "train"]

ALPHA = 10.0  # 100 sites share 1,800 images: were they less even, some would have none
STEPS = 36


def network() -> nn.Sequential:
    """Return the network, whose first values are the same everywhere."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(1024, 10),
    )


def train(model: FLModel, site: Site) -> FLModel:
    """Take some steps on batches of 16 of this site's images."""
    net = network()
    net.load_state_dict(model.params or {})
    part = split_digits(site.num_sites, ALPHA, site.seed)[site.index].train
    images, digits = torch.from_numpy(part.images), torch.from_numpy(part.digits)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    for _ in range(STEPS):
        batch = torch.from_numpy(site.rng.integers(0, len(part), 16))
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images[batch]), digits[batch]).backward()
        optimizer.step()
    return FLModel(params=dict(net.state_dict()))
