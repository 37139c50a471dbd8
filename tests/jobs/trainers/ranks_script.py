"""A script that torchrun starts twice: gloo adds what both ranks have, rank 0 exchanges models."""

import torch
import torch.distributed as dist

import flare_async.client as flare

dist.init_process_group("gloo")
rank = dist.get_rank()
flare.init(rank=rank)
while flare.is_running():
    model = flare.receive()
    ours = torch.full((4,), float(rank + 1))
    dist.all_reduce(ours)
    if rank == 0:
        flare.send(flare.FLModel(params={"w": model.params["w"] + ours}, metrics={}))
    else:
        assert model is None
dist.destroy_process_group()
print(f"rank {rank} ends")
