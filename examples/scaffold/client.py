"""The training script of a site: steps with control variates."""

from __future__ import annotations

import argparse
import copy

import torch
from model import Net, accuracy, batches, data_of
from torch import nn

import flare_async.client as flare
from flare_async.client import FLModel
from flare_async.client.scaffold import AlgorithmConstants, PTScaffoldHelper, get_lr_values

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
    helper = PTScaffoldHelper()
    helper.init(net)

    flare.init()
    site = int(flare.system_info()["site_name"].removeprefix("site-")) - 1
    pictures, labels, held_out, expected = data_of(site, args.n_clients)
    while flare.is_running():
        received = flare.receive()
        number = received.current_round
        net.load_state_dict(received.params)
        metrics = {"accuracy": accuracy(net, held_out, expected)}  # of the model as it came
        first = copy.deepcopy(net)
        helper.load_global_controls(received.meta[AlgorithmConstants.SCAFFOLD_CTRL_GLOBAL])
        controls = helper.get_params()
        data = batches(pictures, labels, site, number, args.epochs)
        net.train()
        for inputs, targets in data:
            optimizer.zero_grad()
            loss = loss_of(net(inputs), targets)
            loss.backward()
            optimizer.step()
            helper.model_update(net, get_lr_values(optimizer)[0], *controls)
        helper.terms_update(net, get_lr_values(optimizer)[0], *controls, first)
        flare.send(
            FLModel(
                params=net.state_dict(),
                metrics=metrics,
                meta={AlgorithmConstants.SCAFFOLD_CTRL_DIFF: helper.get_delta_controls()},
            )
        )


if __name__ == "__main__":
    main()
