"""A desk made by hand, and a small Lightning module, for one process."""

from __future__ import annotations

import torch

from flare_async.jobs.scripts.desk import Place, TaskFacts
from flare_async.model import FLModel


class HandMade:
    """Has tasks in a list; keeps what is handed in and logged."""

    def __init__(self, tasks, params):
        self.place = Place("site-1", "job-1")
        self.tasks, self.params = list(tasks), params
        self.results, self.records = [], []

    def wait(self, timeout=None):
        """Return the current task, or None at the end."""
        number = len(self.results)
        if number == len(self.tasks):
            return None
        return TaskFacts(number + 1, self.tasks[number], number, len(self.tasks))

    def take(self, *, copy=True):
        """Return the model, in each round 100 more."""
        number = len(self.results)
        params = {name: value.clone() + 100 * number for name, value in self.params.items()}
        return FLModel(params=params, current_round=number, total_rounds=len(self.tasks))

    def hand_in(self, model):
        """Keep a copy of the result."""
        if model.params is not None:
            model.params = {name: value.clone() for name, value in model.params.items()}
        self.results.append(model)

    def log(self, record):
        """Keep a record."""
        self.records.append(record)

    def close(self):
        """Do nothing."""


def make_module():
    """Return a module with one weight, momentum, and a scheduler that halves the rate."""
    import pytorch_lightning as pl

    class Line(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 1, bias=False)
            self.rates, self.momenta, self.validated = [], [], []

        def training_step(self, batch, index):
            (x,) = batch
            loss = self.layer(x).mean()
            self.log("train_loss", loss)
            return loss

        def on_train_start(self):
            optimizer = self.optimizers().optimizer
            self.rates.append(optimizer.param_groups[0]["lr"])
            state = optimizer.state.get(self.layer.weight, {})
            self.momenta.append(float(state.get("momentum_buffer", torch.zeros(())).sum()))

        def validation_step(self, batch, index):
            self.validated.append(self.layer.weight.item())
            self.log("weight", self.layer.weight.sum())

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.5, momentum=0.9)
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
            return [optimizer], [scheduler]

    return Line()


def loader(count=8):
    """Return batches of one."""
    return torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.ones(count, 1)), batch_size=1
    )


def make_trainer(**options):
    """Return a quiet trainer on the processor."""
    import pytorch_lightning as pl

    quiet = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return pl.Trainer(**(quiet | {"max_epochs": 1} | options))
