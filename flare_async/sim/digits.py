"""The job that ``python -m flare_async.sim`` runs, written as a user would write one.

Eight sites with different handwritten digits train one small network together. Copy this file and
change it: a job file needs a ``recipe``, here a function that returns one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from flare_async.jobs.site import Site
from flare_async.model import FLModel
from flare_async.recipes.fedavg import FedAvgRecipe
from flare_async.sim.dataset import NUM_CLASSES, Part, SiteData, split_digits

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

__all__ = ["TRAINING", "Training", "evaluate", "fit", "network", "recipe", "score", "train"]


@dataclass(frozen=True, slots=True)
class Training:
    """How a site trains; the values were chosen by validation accuracy alone."""

    epochs: int = 2
    batch_size: int = 8
    learning_rate: float = 0.05
    momentum: float = 0.9


TRAINING: Final = Training()


def recipe(seed: int = 7, alpha: float = 0.5) -> FedAvgRecipe:
    """Return federated averaging of ``network`` over 8 sites, 10 rounds of 2 local epochs."""
    return FedAvgRecipe(
        name="digits",
        model=network(seed),
        num_rounds=10,
        min_clients=6,  # two of the eight may fail in a round
        train=train,
        evaluate=evaluate,
        key_metric="accuracy",
        train_config={"alpha": alpha},
    )


def network(seed: int = 0) -> nn.Sequential:
    """Return a network of about 4,800 weights whose first values depend on the seed only."""
    import torch
    from torch import nn

    layers = nn.Linear(64, 64), nn.Linear(64, NUM_CLASSES)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in (p for layer in layers for p in layer.parameters()):
            parameter.uniform_(-0.125, 0.125, generator=generator)  # 1 / sqrt(64 inputs)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])


def train(model: FLModel, site: Site) -> FLModel:
    """Train the received model on this site's images and return it."""
    net = network()
    net.load_state_dict(model.params or {})
    images = images_of(site).train
    loss = fit(net, images, site.rng)
    steps = TRAINING.epochs * math.ceil(len(images) / TRAINING.batch_size)
    return FLModel(
        params=dict(net.state_dict()),
        metrics={"loss": loss},
        meta={"NUM_STEPS_CURRENT_ROUND": steps},
    )


def fit(net: nn.Module, part: Part, rng: np.random.Generator) -> float:
    """Train in place for some epochs; return the mean loss of the last one."""
    import torch

    images, digits = torch.from_numpy(part.images), torch.from_numpy(part.digits)
    rate, momentum = TRAINING.learning_rate, TRAINING.momentum
    optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=momentum)
    total = 0.0
    for _ in range(TRAINING.epochs):
        total = 0.0
        for batch in torch.split(torch.from_numpy(rng.permutation(len(part))), TRAINING.batch_size):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(net(images[batch]), digits[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += float(loss.detach()) * len(batch)
    return total / len(part)


def evaluate(model: FLModel, site: Site) -> dict[str, float]:
    """Return accuracy and loss of the received model on this site's validation part."""
    net = network()
    net.load_state_dict(model.params or {})
    validation = images_of(site).validation
    # Sites differ in size: the runtime weighs their metrics by this number.
    return {**score(net, validation), "num_examples": len(validation)}


def score(net: nn.Module, part: Part) -> dict[str, float]:
    """Return the network's accuracy and mean loss on these images."""
    import torch

    images, digits = torch.from_numpy(part.images), torch.from_numpy(part.digits)
    with torch.no_grad():
        logits = net(images)
        loss = torch.nn.functional.cross_entropy(logits, digits)
    hits = int((logits.argmax(dim=1) == digits).sum())
    return {"accuracy": hits / len(part), "loss": float(loss)}


def images_of(site: Site) -> SiteData:
    """Return this site's share of the digits."""
    alpha = site.config["alpha"]
    if not isinstance(alpha, float):
        raise TypeError(f"alpha={alpha!r}: a float is needed")
    return split_digits(site.num_sites, alpha, site.seed)[site.index]
