"""The training script of a site: a Lightning trainer that was patched to take part in the job."""

from __future__ import annotations

import argparse

import torch
from model import LitNet
from pytorch_lightning import LightningDataModule, Trainer
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

import flare_async.client.lightning as flare

__all__ = ["main"]

HELD_OUT = 297  # of 1797 pictures, to judge the model with; the others are shared out


class Digits(LightningDataModule):
    """A site's pictures, and those that are held out."""

    def __init__(self, site: int, sites: int, batch_size: int) -> None:
        super().__init__()
        found = load_digits()
        pictures = torch.tensor(found.images, dtype=torch.float32).unsqueeze(1) / 16
        labels = torch.tensor(found.target)
        own = slice(HELD_OUT + site, None, sites)
        self.own = TensorDataset(pictures[own], labels[own])
        self.held_out = TensorDataset(pictures[:HELD_OUT], labels[:HELD_OUT])
        self.site = site
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader:
        """Return the batches of a round; epochs count on from round to round."""
        # What a site draws depends on site and round only, so a run can be repeated.
        draw = torch.Generator().manual_seed(1000 * self.site + self.trainer.current_epoch)
        return DataLoader(self.own, self.batch_size, shuffle=True, generator=draw)

    def val_dataloader(self) -> DataLoader:
        """Return what the received model is judged with."""
        return DataLoader(self.held_out, batch_size=HELD_OUT)


def main() -> None:
    """Take part in the job, a round after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n_clients", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch_size", type=int, default=16)
    args = parser.parse_args()

    torch.set_num_threads(1)  # several sites share the cores of this machine
    flare.init()
    site = int(flare.get_site_name().removeprefix("site-")) - 1
    data = Digits(site, args.n_clients, args.batch_size)
    model = LitNet()
    trainer = Trainer(
        max_epochs=args.epochs,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    flare.patch(trainer)
    while flare.is_running():
        trainer.validate(model, datamodule=data, verbose=False)  # the model as it came
        trainer.fit(model, datamodule=data)


if __name__ == "__main__":
    main()
