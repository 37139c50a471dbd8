"""The training script of a site: a convolutional network, trained with PyTorch."""

from __future__ import annotations

import argparse

import torch
from model import Net
from sklearn.datasets import load_digits
from torch import nn

import flare_async.client as flare
from flare_async.client import FLModel
from flare_async.client.tracking import SummaryWriter

__all__ = ["main"]

HELD_OUT = 297  # of 1797 pictures, to judge the model with; the others are shared out


def data_of(site: int, sites: int) -> tuple[torch.Tensor, ...]:
    """Return a site's pictures and labels, and those that are held out."""
    found = load_digits()
    pictures = torch.tensor(found.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(found.target)
    own = slice(HELD_OUT + site, None, sites)
    return pictures[own], labels[own], pictures[:HELD_OUT], labels[:HELD_OUT]


def evaluate(net: nn.Module, pictures: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the part of the pictures that the network classifies correctly."""
    with torch.no_grad():
        return (net(pictures).argmax(1) == labels).float().mean().item()


def main() -> None:
    """Take part in the job, a round after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n_clients", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch_size", type=int, default=16)
    args = parser.parse_args()

    torch.set_num_threads(1)  # several sites share the cores of this machine
    net = Net()
    loss_of = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)

    flare.init()
    site = int(flare.system_info()["site_name"].removeprefix("site-")) - 1
    pictures, labels, held_out, expected = data_of(site, args.n_clients)
    writer = SummaryWriter()
    while flare.is_running():
        input_model = flare.receive()
        number = input_model.current_round
        net.load_state_dict(input_model.params)
        accuracy = evaluate(net, held_out, expected)  # of the model as it came
        print(f"round {number}: accuracy {accuracy:.3f}")

        # What a site draws depends on site and round only, so a run can be repeated.
        draw = torch.Generator().manual_seed(1000 * site + number)
        steps = 0
        for _ in range(args.epochs):
            for batch in torch.randperm(len(labels), generator=draw).split(args.batch_size):
                optimizer.zero_grad()
                loss = loss_of(net(pictures[batch]), labels[batch])
                loss.backward()
                optimizer.step()
                steps += 1
        writer.add_scalar("loss", loss.detach(), number)
        flare.send(
            FLModel(
                params=net.state_dict(),
                metrics={"accuracy": accuracy},
                meta={"NUM_STEPS_CURRENT_ROUND": steps},
            )
        )


if __name__ == "__main__":
    main()
