"""The training script of a site: a patched Lightning trainer with several processes (DDP).

Lightning starts the other ranks by running this file's command line again, so several of them need
``launch_external_process``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import torch
from model import LitNet
from pytorch_lightning import LightningDataModule, Trainer
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Sampler, TensorDataset

import flare_async.client.lightning as flare

__all__ = ["main"]

HELD_OUT = 297  # of 1797 pictures, to judge the model with; the others are shared out


class Part(Sampler[list[int]]):
    """One rank's part of every batch; all ranks draw the same order."""

    def __init__(self, size: int, batch_size: int, seed: int, place: tuple[int, int]) -> None:
        self.size, self.batch_size, self.place = size, batch_size, place
        self.draw = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self.size // self.batch_size

    def __iter__(self) -> Iterator[list[int]]:
        rank, ranks = self.place
        order = torch.randperm(self.size, generator=self.draw).tolist()
        for at in range(len(self)):
            yield order[at * self.batch_size : (at + 1) * self.batch_size][rank::ranks]


class Digits(LightningDataModule):
    """A site's pictures, and those that are held out."""

    def __init__(self, site: int, sites: int, batch_size: int) -> None:
        super().__init__()
        pictures, labels = load_digits(return_X_y=True)
        pictures = torch.tensor(pictures, dtype=torch.float32) / 16
        labels = torch.tensor(labels)
        own = slice(HELD_OUT + site, None, sites)
        self.own = TensorDataset(pictures[own], labels[own])
        self.held_out = TensorDataset(pictures[:HELD_OUT], labels[:HELD_OUT])
        self.site = site
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader:
        """Return this rank's batches of a round; epochs count on from round to round."""
        seed = 1000 * self.site + self.trainer.current_epoch
        place = (self.trainer.global_rank, self.trainer.world_size)
        sampler = Part(len(self.own), self.batch_size, seed, place)
        return DataLoader(self.own, batch_sampler=sampler)

    def val_dataloader(self) -> DataLoader:
        """Return what the received model is judged with."""
        return DataLoader(self.held_out, batch_size=HELD_OUT)


def main() -> None:
    """Take part in the job, a round after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n_clients", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--devices", type=int, default=2)
    args = parser.parse_args()

    torch.set_num_threads(1)  # several sites share the cores of this machine
    flare.init()
    site = int(flare.get_site_name().removeprefix("site-")) - 1
    data = Digits(site, args.n_clients, args.batch_size)
    model = LitNet()
    enough = torch.cuda.device_count() >= args.devices
    trainer = Trainer(
        max_epochs=args.epochs,
        accelerator="gpu" if enough else "cpu",
        devices=args.devices,
        strategy="ddp" if args.devices > 1 else "auto",
        use_distributed_sampler=False,  # the batches are parts already
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    flare.patch(trainer)
    while flare.is_running():  # ends with the job on every rank
        trainer.validate(model, datamodule=data, verbose=False)  # the model as it came
        trainer.fit(model, datamodule=data)


if __name__ == "__main__":
    main()
