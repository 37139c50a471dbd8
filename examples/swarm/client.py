"""The training script of a site; it is the same as for a model at a server."""

from __future__ import annotations

import argparse

import torch
from model import Net, accuracy, batches, data_of
from torch import nn

import flare_async.client as flare
from flare_async.client import FLModel

__all__ = ["main"]


def main() -> None:
    """Take part in the job, a round after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n_clients", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    args = parser.parse_args()

    torch.set_num_threads(1)  # several sites share the cores of this machine
    net, loss_of = Net(), nn.CrossEntropyLoss()
    flare.init()
    site = int(flare.system_info()["site_name"].removeprefix("site-")) - 1
    pictures, labels, held_out, expected = data_of(site, args.n_clients)
    while flare.is_running():
        received = flare.receive()
        net.load_state_dict(received.params)
        metrics = {"accuracy": accuracy(net, held_out, expected)}  # of the model as it came
        if flare.is_evaluate():
            flare.send(FLModel(metrics=metrics))
            continue
        optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
        data = batches(pictures, labels, site, received.current_round, args.epochs)
        net.train()
        for inputs, targets in data:
            optimizer.zero_grad()
            loss = loss_of(net(inputs), targets)
            loss.backward()
            optimizer.step()
        flare.send(
            FLModel(
                params=net.state_dict(),
                metrics=metrics,
                meta={"NUM_STEPS_CURRENT_ROUND": len(data)},
            )
        )


if __name__ == "__main__":
    main()
