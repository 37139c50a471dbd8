"""Optimizers that a server steps with: what the sites' mean moved by is taken as a gradient.

Reddi et al., "Adaptive Federated Optimization", ICLR 2021, algorithm 2. With the mean move
d_t = mean_t - x_t of a round, and for each value of the model,

    SGD      m_t = momentum * m_{t-1} + d_t                      x_{t+1} = x_t + lr * m_t
    Adagrad  v_t = v_{t-1} + d_t^2
    Adam     v_t = beta2 * v_{t-1} + (1 - beta2) * d_t^2
    Yogi     v_t = v_{t-1} - (1 - beta2) * d_t^2 * sign(v_{t-1} - d_t^2)

    and for the last three   m_t = beta1 * m_{t-1} + (1 - beta1) * d_t,  m_{-1} = 0,  v_{-1} = tau^2
                             x_{t+1} = x_t + lr * m_t / (sqrt(v_t) + tau)

As in the paper there is no correction of the bias of m and v; PyTorch's Adam has one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from flare_async.errors import ConfigError

__all__ = ["SGD", "Adagrad", "Adam", "OptimizerRule", "Slots", "Values", "Yogi"]

Values = npt.NDArray[np.floating]
Slots = dict[str, Values]


class OptimizerRule(Protocol):
    """A frozen set of hyper-parameters with the update equations; its state is the caller's."""

    @property
    def lr(self) -> float:
        """The learning rate before any schedule."""

    @property
    def slots(self) -> dict[str, float]:
        """The names of the state that each value of the model has, and what it is at first."""

    def step(self, move: Values, slots: Slots, lr: float) -> Values:
        """Return what is added to the model's values; changes ``slots`` in place."""


@dataclass(frozen=True, slots=True)
class SGD:
    """Gradient descent on the server; with ``lr`` 1 and no momentum it is FedAvg.

    Raises:
        ConfigError: a number is out of range.
    """

    lr: float = 1.0
    momentum: float = 0.0

    def __post_init__(self) -> None:
        check_positive("lr", self.lr)
        check_part("momentum", self.momentum)

    @property
    def slots(self) -> dict[str, float]:
        """The running sum of the moves, if there is momentum."""
        return {"m": 0.0} if self.momentum else {}

    def step(self, move: Values, slots: Slots, lr: float) -> Values:
        """Return ``lr`` times the running sum of the moves."""
        if not self.momentum:
            return lr * move
        slots["m"] *= self.momentum
        slots["m"] += move
        return lr * slots["m"]


@dataclass(frozen=True, slots=True)
class Adaptive:
    """What the three adaptive rules share: a step for each value, by the size of its moves.

    Raises:
        ConfigError: a number is out of range.
    """

    lr: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3

    def __post_init__(self) -> None:
        check_positive("lr", self.lr)
        check_positive("tau", self.tau)
        check_part("beta1", self.beta1)
        check_part("beta2", self.beta2)

    @property
    def slots(self) -> dict[str, float]:
        """The running mean of the moves, and what stands for their squares."""
        return {"m": 0.0, "v": self.tau**2}

    def step(self, move: Values, slots: Slots, lr: float) -> Values:
        """Return the step of every value."""
        mean, size = slots["m"], slots["v"]
        mean *= self.beta1
        mean += (1 - self.beta1) * move
        self.grow(size, np.square(move))
        return lr * mean / (np.sqrt(size) + self.tau)

    def grow(self, size: Values, squares: Values) -> None:
        """Change the size of the moves so far by the squares of the newest."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Adagrad(Adaptive):
    """FedAdagrad: squares are summed; ``beta2`` is not used, and ``beta1`` is 0 unless given."""

    beta1: float = 0.0

    def grow(self, size: Values, squares: Values) -> None:
        """Add the squares."""
        size += squares


@dataclass(frozen=True, slots=True)
class Adam(Adaptive):
    """FedAdam: a running mean of the squares."""

    def grow(self, size: Values, squares: Values) -> None:
        """Move towards the squares by a part of the way."""
        size *= self.beta2
        size += (1 - self.beta2) * squares


@dataclass(frozen=True, slots=True)
class Yogi(Adaptive):
    """FedYogi: towards the squares by a part of them, so that sizes fall slowly."""

    def grow(self, size: Values, squares: Values) -> None:
        """Move towards the squares by a part of the squares."""
        size -= (1 - self.beta2) * squares * np.sign(size - squares)


def check_positive(field: str, value: object) -> None:
    """Refuse what is no finite number above 0. Raises ConfigError."""
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigError(f"optimizer_args.{field}", value, "a number above 0 is needed")


def check_part(field: str, value: object) -> None:
    """Refuse what is no number from 0 to below 1. Raises ConfigError."""
    if not isinstance(value, int | float) or not 0 <= value < 1:
        raise ConfigError(f"optimizer_args.{field}", value, "from 0 to below 1 is needed")
