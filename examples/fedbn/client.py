"""The training script of a site: batch normalisation is its own."""

from __future__ import annotations

import argparse

import torch
from model import Net, accuracy, batches, data_of
from torch import nn

import flare_async.client as flare
from flare_async.client import FLModel
from flare_async.client.fedbn import LocalTensors

__all__ = ["main"]


def main() -> None:
    """Take part in the job, a round after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n_clients", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=2)
    args = parser.parse_args()

    torch.set_num_threads(1)  # several sites share the cores of this machine
    net, loss_of = Net(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2)

    flare.init()
    site = int(flare.system_info()["site_name"].removeprefix("site-")) - 1
    pictures, labels, held_out, expected = data_of(site, args.n_clients)
    state: dict[str, object] = {}
    local = LocalTensors(str(flare.get_config()["local_vars"]), state)
    while flare.is_running():
        received = flare.receive()
        number = received.current_round
        local.restore(received.params)
        net.load_state_dict(received.params)
        metrics = {"accuracy": accuracy(net, held_out, expected)}  # of the model as it came
        data = batches(pictures, labels, site, number, args.epochs)
        net.train()
        for inputs, targets in data:
            optimizer.zero_grad()
            loss = loss_of(net(inputs), targets)
            loss.backward()
            optimizer.step()
        local.keep(net.state_dict())
        flare.send(
            FLModel(
                params=net.state_dict(),
                metrics=metrics,
                meta={"NUM_STEPS_CURRENT_ROUND": len(data)},
            )
        )


if __name__ == "__main__":
    main()
