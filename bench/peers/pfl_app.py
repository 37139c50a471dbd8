"""The exchange in pfl, as its documents set up a simulation: no process, no message.

``SimulatedBackend`` with ``FederatedAveraging`` on a PyTorch model in one process. By default
a client takes one step of SGD with learning rate 1 on ``-sum(w)``, which adds one. ``--bare`` is
the least that pfl can do for a client: an algorithm of its own whose clients add one without a
data set, a loss or an optimizer.
"""

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDatasetBase
from pfl.hyperparam.base import NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel


class Weights(torch.nn.Module):
    """A vector, and a loss whose gradient is minus one everywhere."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.full((size,), 0.5))

    def loss(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return what one step of SGD with learning rate 1 turns into adding one."""
        return -self.w.sum()

    def metrics(self, inputs: torch.Tensor) -> dict[str, float]:
        """Return nothing: pfl requires the method, and nobody evaluates."""
        return {}


class Bare(FederatedAveraging):
    """Clients that add one, and nothing else."""

    def train_one_user(self, initial_model_state, model, user_dataset, central_context):
        """Add one to the model and return the difference."""
        with torch.no_grad():
            for variable in model.variable_map.values():
                variable.add_(1.0)
        return model.get_model_difference(initial_model_state), Metrics()


class Users(FederatedDatasetBase):
    """As many users as are asked for, all with the same single sample."""

    def __init__(self) -> None:
        super().__init__()
        self.data = Dataset([np.zeros((1, 1), np.float32)])

    def __next__(self) -> tuple[Dataset, int]:
        return self.data, 0

    def get_cohort(self, cohort_size: int) -> Iterator[tuple[Dataset, int]]:
        """Return the users of one round."""
        return ((self.data, 0) for _ in range(cohort_size))


class Stamps(TrainingProcessCallback):
    """Notes when a round ended."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        """Note the time; never stop."""
        with self.path.open("a") as file:
            file.write(f"{time.time()}\n")
        return False, Metrics()


def main() -> None:
    """Run as the command line says, and print what came of it."""
    found = argparse.ArgumentParser()
    found.add_argument("--folder", type=Path, required=True)
    found.add_argument("--nbytes", type=int, required=True)
    found.add_argument("--clients", type=int, required=True)
    found.add_argument("--rounds", type=int, required=True)
    found.add_argument("--bare", action="store_true")
    found.add_argument("--silent", action="store_true", help="do not note when a round ended")
    options = found.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    weights = Weights(options.nbytes // 4)
    model = PyTorchModel(weights, torch.optim.SGD, torch.optim.SGD(weights.parameters(), lr=1.0))
    algorithm = Bare() if options.bare else FederatedAveraging()
    algorithm._current_central_iteration = 1  # at 0 pfl evaluates every user's model as well
    algorithm.run(
        NNAlgorithmParams(
            central_num_iterations=options.rounds + 1,
            evaluation_frequency=options.rounds + 2,
            train_cohort_size=options.clients,
            val_cohort_size=None,
        ),
        SimulatedBackend(Users(), Users()),
        model,
        NNTrainHyperParams(local_num_epochs=1, local_learning_rate=1.0, local_batch_size=None),
        callbacks=[] if options.silent else [Stamps(options.folder / "server.txt")],
        send_metrics_to_platform=False,
    )
    value = float(weights.w.detach().numpy().flat[-1])
    ok = value == 0.5 + options.rounds
    print(json.dumps({"ok": ok, "values": [value]}))
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
