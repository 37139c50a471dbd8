"""What the sites of ``bench.algorithms`` do: some epochs of SGD, with what each algorithm adds."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from flare_async import FLModel
from flare_async.client.fedprox import PTFedProxLoss
from flare_async.client.scaffold import AlgorithmConstants, PTScaffoldHelper
from flare_async.jobs.site import Site
from flare_async.sim.dataset import Part, split_digits
from flare_async.sim.digits import network, score

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = [
    "ALPHA",
    "LocalTraining",
    "VersionScores",
    "train",
    "train_controlled",
    "train_proximal",
]

ALPHA: Final = 0.1
HELPER: Final = "scaffold"


@dataclass(frozen=True, slots=True)
class LocalTraining:
    """How a site trains."""

    rate: float
    epochs: int = 5
    batch: int = 32

    def config(self) -> dict[str, float]:
        """Return it as the options that sites receive."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Steps:
    """The local steps: what is added to the loss, and what comes after each of them."""

    added: Callable[[], torch.Tensor] | None = None
    after: Callable[[], None] | None = None

    def take(self, net: nn.Module, site: Site) -> float:
        """Train in place; return the mean loss of the last epoch, without what was added."""
        import torch

        part, local = images_of(site), local_training(site)
        images, digits = torch.from_numpy(part.images), torch.from_numpy(part.digits)
        optimizer = torch.optim.SGD(net.parameters(), lr=local.rate)
        total = 0.0
        for _ in range(local.epochs):
            total = 0.0
            order = torch.from_numpy(site.rng.permutation(len(part)))
            for rows in torch.split(order, local.batch):
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(net(images[rows]), digits[rows])
                (loss if self.added is None else loss + self.added()).backward()
                optimizer.step()
                if self.after is not None:
                    self.after()
                total += float(loss.detach()) * len(rows)
        return total / len(part)


def train(model: FLModel, site: Site) -> FLModel:
    """Train on the site's images."""
    net = received(model)
    return answered(net, Steps().take(net, site), site)


def train_proximal(model: FLModel, site: Site) -> FLModel:
    """Train with FedProx's term."""
    net, start = received(model), received(model)
    term = PTFedProxLoss(number(model.meta["fedprox_mu"]))
    return answered(net, Steps(added=lambda: term(net, start)).take(net, site), site)


def train_controlled(model: FLModel, site: Site) -> FLModel:
    """Train with SCAFFOLD's controls; the site's own stays in its state."""
    net = received(model)
    start, rate = copy.deepcopy(net), local_training(site).rate
    helper = helper_of(site, net)
    helper.receive(model, site.name)
    both = helper.get_params()
    loss = Steps(after=lambda: helper.model_update(net, rate, *both)).take(net, site)
    helper.terms_update(net, rate, *both, start)
    done = answered(net, loss, site)
    done.meta[AlgorithmConstants.SCAFFOLD_CTRL_DIFF] = helper.get_delta_controls()
    return done


class VersionScores:
    """How each version of the global model does on images that no site trains with.

    Every version is received by somebody, so its score is taken there, once. It is no part of the
    federation: sites run in this process, and nothing depends on what ``evaluate`` returns.
    """

    def __init__(self, part: Part) -> None:
        self._part = part
        self._found: dict[int, dict[str, float]] = {}

    def evaluate(self, model: FLModel, site: Site) -> dict[str, float]:
        """Return accuracy and loss of the received version."""
        version = int(number(model.meta.get("model_version", site.round_number)))
        if version not in self._found:
            self._found[version] = score(received(model), self._part)
        return self._found[version]

    def curve(self, metric: str, versions: range) -> list[float]:
        """Return a metric of those versions. Raises KeyError when nobody received one of them."""
        return [self._found[version][metric] for version in versions]


def received(model: FLModel) -> nn.Module:
    """Return a network with the received values."""
    net = network()
    net.load_state_dict(model.params or {})
    return net


def answered(net: nn.Module, loss: float, site: Site) -> FLModel:
    """Return what a site sends; its images are the weight."""
    return FLModel(
        params=dict(net.state_dict()),
        metrics={"loss": loss},
        meta={"NUM_STEPS_CURRENT_ROUND": len(images_of(site))},
    )


def images_of(site: Site) -> Part:
    """Return the images that the site trains with."""
    return split_digits(site.num_sites, ALPHA, site.seed)[site.index].train


def local_training(site: Site) -> LocalTraining:
    """Return how this site is to train."""
    rate, epochs, batch = (number(site.config[name]) for name in ("rate", "epochs", "batch"))
    return LocalTraining(rate, int(epochs), int(batch))


def helper_of(site: Site, net: nn.Module) -> PTScaffoldHelper:
    """Return the site's helper, the same in every round."""
    helper = site.state.get(HELPER)
    if isinstance(helper, PTScaffoldHelper):
        return helper
    made = PTScaffoldHelper()
    made.init(net)
    site.state[HELPER] = made
    return made


def number(value: object) -> float:
    """Return a finite number. Raises TypeError when it is none."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"{value!r:.40} is no finite number")
    return float(value)
