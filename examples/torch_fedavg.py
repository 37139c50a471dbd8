"""Federated averaging with PyTorch: three sites train one small network on points in a plane."""

from __future__ import annotations

import torch
from torch import nn

from flare_async import FLModel, Run, SimEnv
from flare_async.jobs.site import Site
from flare_async.recipes import FedAvgRecipe

__all__ = ["main", "recipe"]

BATCHES = 20


def network() -> nn.Module:
    """Return the network; its first weights are the recipe's, so they are drawn only once."""
    return nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1))


def points_of(site: Site) -> tuple[torch.Tensor, torch.Tensor]:
    """Return fresh points of this round; a site sees one third of the plane only."""
    draw = site.torch_rng()  # the same numbers inline, in a thread and in a process
    angles = (site.index + torch.rand(64, generator=draw)) * (2 * torch.pi / 3)
    radii = 2 * torch.rand(64, generator=draw)
    points = torch.stack([radii * angles.cos(), radii * angles.sin()], dim=1)
    return points, (radii > 1).float().unsqueeze(1)


def evaluate(model: FLModel, site: Site) -> dict[str, float]:
    """Return the accuracy of the received model."""
    net = network()
    net.load_state_dict(model.params)
    points, labels = points_of(site)
    with torch.no_grad():
        hits = (net(points) > 0).float() == labels
    return {"accuracy": float(hits.float().mean())}


def train(model: FLModel, site: Site) -> FLModel:
    """Train the received weights and return them."""
    net = network()
    net.load_state_dict(model.params)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    points, labels = points_of(site)
    for _ in range(BATCHES):
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(net(points), labels)
        loss.backward()
        optimizer.step()
    return FLModel(
        params=net.state_dict(),
        metrics={"loss": float(loss.detach())},
        meta={"NUM_STEPS_CURRENT_ROUND": BATCHES},
    )


def recipe() -> FedAvgRecipe:
    """Return the job: for ``hunt`` and ``what-if``, too."""
    torch.manual_seed(7)
    return FedAvgRecipe(
        name="torch-fedavg",
        model=network(),
        min_clients=3,
        num_rounds=8,
        train=train,
        evaluate=evaluate,
    )


def main() -> Run:
    """Run eight rounds with three sites."""
    run = recipe().execute(SimEnv(num_clients=3, seed=7))
    print(run.explain())
    print("kept:", ", ".join(sorted(path.name for path in run.folder.iterdir())))
    return run


if __name__ == "__main__":
    main()
