"""A client in the manner of NVFlare's hello-pt; only its import lines are changed."""

import argparse

import torch
from torch import nn

import flare_async.client as flare
from flare_async.client.tracking import SummaryWriter


def evaluate(net, inputs, labels):
    """Return the accuracy of a network."""
    net.eval()
    with torch.no_grad():
        return (net(inputs).argmax(dim=1) == labels).float().mean()


def arguments():
    """Return what the recipe gave as train_args."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch_size", type=int, default=8)
    return parser.parse_args()


def main():
    args = arguments()

    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2))
    loss_of = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    flare.init()
    client_name = flare.get_site_name()
    random = torch.Generator().manual_seed(len(client_name))
    labels = torch.arange(32) % 2
    inputs = torch.randn(32, 1, 8, 8, generator=random) + labels.reshape(-1, 1, 1, 1)
    summary_writer = SummaryWriter()

    while flare.is_running():
        input_model = flare.receive()
        net.load_state_dict(input_model.params)
        accuracy = evaluate(net, inputs, labels)
        if flare.is_evaluate():
            flare.send(flare.FLModel(metrics={"accuracy": accuracy}))
            continue
        net.train()
        steps = 0
        for _ in range(args.epochs):
            for first in range(0, len(inputs), args.batch_size):
                batch = slice(first, first + args.batch_size)
                optimizer.zero_grad()
                loss = loss_of(net(inputs[batch]), labels[batch])
                loss.backward()
                optimizer.step()
                steps += 1
        summary_writer.add_scalar("train_loss", loss.item(), global_step=input_model.current_round)
        output_model = flare.FLModel(
            params=net.cpu().state_dict(),
            metrics={"accuracy": accuracy},
            meta={"NUM_STEPS_CURRENT_ROUND": steps},
        )
        flare.send(output_model)


if __name__ == "__main__":
    main()
