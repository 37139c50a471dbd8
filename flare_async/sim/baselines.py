"""What the federation is compared with: each site on its own, and one party that has all images.

Both start from the federation's first weights, train for as many epochs with the same settings,
restart the optimizer as often, and keep the version that does best on their own validation part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from flare_async.sim.dataset import SiteData, pooled, read_test_set, split_digits
from flare_async.sim.digits import fit, network, score

if TYPE_CHECKING:
    import torch

__all__ = ["Comparison", "Setting", "compare", "one_thread", "train_alone", "train_pooled"]

POOLED: Final = -1  # in place of a site's index in the random seed


@dataclass(frozen=True, slots=True)
class Setting:
    """What the federated run had, so that its baselines have the same."""

    num_sites: int
    rounds: int
    alpha: float
    seed: int

    def sites(self) -> tuple[SiteData, ...]:
        """Return each site's images."""
        return split_digits(self.num_sites, self.alpha, self.seed)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Test accuracies, all measured in one reading of the test set."""

    federated: float
    alone: tuple[float, ...]  # by the site's index
    pooled: float

    @property
    def best_site(self) -> int:
        """The index of the site that does best alone, picked with hindsight on the test set."""
        return max(range(len(self.alone)), key=lambda index: self.alone[index])

    @property
    def best_alone(self) -> float:
        """The test accuracy of that site's model."""
        return self.alone[self.best_site]


def compare(federated: Mapping[str, torch.Tensor], setting: Setting) -> Comparison:
    """Train the baselines, then read the test set once, for all models together.

    Raises:
        ConfigError: the setting cannot be divided among so many sites.
        MissingExtra: scikit-learn is not installed.
    """
    with one_thread():
        alone = train_alone(setting)
        together = train_pooled(setting)
        net, test = network(), read_test_set()
        accuracies = []
        for params in (federated, together, *alone):
            net.load_state_dict(params)
            accuracies.append(score(net, test)["accuracy"])
    return Comparison(accuracies[0], tuple(accuracies[2:]), accuracies[1])


def train_alone(setting: Setting) -> list[dict[str, torch.Tensor]]:
    """Return for each site the best network that it can train from its own images."""
    return [_best(data, setting, index) for index, data in enumerate(setting.sites())]


def train_pooled(setting: Setting) -> dict[str, torch.Tensor]:
    """Return the best network that one party with all sites' images can train."""
    return _best(pooled(setting.sites()), setting, POOLED)


def _best(data: SiteData, setting: Setting, index: int) -> dict[str, torch.Tensor]:
    net = network(setting.seed)
    rng = np.random.default_rng((setting.seed, setting.num_sites if index == POOLED else index))
    best, reached = _copy(net.state_dict()), (-1.0, 0.0)
    for _ in range(setting.rounds):
        fit(net, data.train, rng)
        metrics = score(net, data.validation)
        now = (metrics["accuracy"], -metrics["loss"])  # small parts tie in accuracy
        if now > reached:
            best, reached = _copy(net.state_dict()), now
    return best


def _copy(params: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in params.items()}


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread, as sites do: the number of threads changes the bits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
