"""The training script of a site: several processes train one network with PyTorch's DDP.

Started by torchrun, each process takes its part of every batch. Rank 0 receives and sends; the
others learn from it what to do. Without torchrun it is an ordinary script of one process.
"""

from __future__ import annotations

import argparse
import os

import torch
import torch.distributed as dist
from model import Net
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import flare_async.client as flare
from flare_async.client import FLModel

__all__ = ["main"]

HELD_OUT = 297  # of 1797 pictures, to judge the model with; the others are shared out
RANK = int(os.environ.get("RANK", "0"))
RANKS = int(os.environ.get("WORLD_SIZE", "1"))


def device_of() -> torch.device:
    """Return this process's device: a GPU of its own where there are enough."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    enough = torch.cuda.device_count() >= RANKS
    return torch.device("cuda", local) if enough else torch.device("cpu")


def data_of(site: int, sites: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Return a site's pictures and labels, and those that are held out."""
    found = load_digits()
    pictures = torch.tensor(found.data, dtype=torch.float32, device=device) / 16
    labels = torch.tensor(found.target, device=device)
    own = slice(HELD_OUT + site, None, sites)
    return pictures[own], labels[own], pictures[:HELD_OUT], labels[:HELD_OUT]


def share(net: nn.Module, number: int, device: torch.device) -> int:
    """Give all ranks the weights and the round of rank 0; return the round."""
    if RANKS == 1:
        return number
    for tensor in net.state_dict().values():
        dist.broadcast(tensor, src=0)
    told = torch.tensor(number, device=device)
    dist.broadcast(told, src=0)
    return int(told)


def train(
    model: nn.Module, data: tuple[torch.Tensor, ...], args: argparse.Namespace, seed: int
) -> int:
    """Train with this rank's part of every batch; return the steps."""
    pictures, labels, *_ = data
    loss_of = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    draw = torch.Generator().manual_seed(seed)  # all ranks draw the same order
    steps = 0
    for _ in range(args.epochs):
        for batch in torch.randperm(len(labels), generator=draw).split(args.batch_size):
            if len(batch) < args.batch_size:
                continue  # parts of unequal size would not have equal weight
            own = batch[RANK::RANKS]
            optimizer.zero_grad()
            loss_of(model(pictures[own]), labels[own]).backward()
            optimizer.step()
            steps += 1
    return steps


def main() -> None:
    """Take part in the job, a round after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n_clients", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch_size", type=int, default=16)
    args = parser.parse_args()

    torch.set_num_threads(1)  # several sites share the cores of this machine
    device = device_of()
    if RANKS > 1:
        dist.init_process_group("gloo" if device.type == "cpu" else "nccl")
    net = Net().to(device)
    model = DistributedDataParallel(net) if RANKS > 1 else net

    flare.init(rank=RANK)
    site = int(flare.get_site_name().removeprefix("site-")) - 1
    data = data_of(site, args.n_clients, device)
    while flare.is_running():  # ends with the job on every rank
        input_model = flare.receive()  # None on all ranks but 0
        if input_model is not None:
            net.load_state_dict(input_model.params)
        number = share(net, input_model.current_round if input_model else 0, device)
        with torch.no_grad():
            accuracy = (net(data[2]).argmax(1) == data[3]).float().mean().item()
        print(f"rank {RANK} of {RANKS}, round {number}: accuracy {accuracy:.3f}")

        steps = train(model, data, args, seed=1000 * site + number)
        if RANK == 0:
            flare.send(
                FLModel(
                    params={name: tensor.cpu() for name, tensor in net.state_dict().items()},
                    metrics={"accuracy": accuracy},
                    meta={"NUM_STEPS_CURRENT_ROUND": steps},
                )
            )
    if RANKS > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
