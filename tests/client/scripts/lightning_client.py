"""A Lightning script as users write it; its first argument is how many processes train."""

from __future__ import annotations

import sys

import pytorch_lightning as pl
import torch

import flare_async.client.lightning as flare


class Line(pl.LightningModule):
    """One weight, trained with momentum."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1, bias=False)
        self.started = None

    def training_step(self, batch, index):
        """Pull the weight down."""
        loss = self.layer(batch[0]).mean()
        self.log("train_loss", loss)
        return loss

    def on_train_start(self):
        """Remember what this rank starts from, and with which momentum and rate."""
        optimizer = self.optimizers().optimizer
        buffer = optimizer.state.get(self.layer.weight, {}).get("momentum_buffer")
        momentum = 0.0 if buffer is None else float(buffer.sum())
        started = torch.tensor(
            [self.layer.weight.item(), momentum, optimizer.param_groups[0]["lr"]]
        )
        every = self.all_gather(started).reshape(-1, 3)
        self.__fl_meta__ = {
            "ranks": len(every),
            "agree": bool((every == every[0]).all()),
            "momentum": float(every[0][1]),
            "rate": float(every[0][2]),
        }

    def validation_step(self, batch, index):
        """Tell the weight."""
        self.log("weight", self.layer.weight.sum(), sync_dist=True)

    def configure_optimizers(self):
        """Halve the rate after each epoch."""
        optimizer = torch.optim.SGD(self.parameters(), lr=0.5, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]


def main():
    """Answer every task."""
    devices = int(sys.argv[1])
    data = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.ones(8, 1)), batch_size=1
    )
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        logger=flare.logger(),
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = Line()
    flare.patch(trainer)
    while flare.is_running():
        trainer.validate(model, data, verbose=False)
        trainer.fit(model, data)


if __name__ == "__main__":
    main()
