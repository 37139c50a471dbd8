"""A client of a load test: what it works on, and the links that it loses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import anyio
import numpy as np

from flare_async.errors import TrainingFailed
from flare_async.net.link import Link, Listener
from flare_async.net.registry import Transports
from flare_async.ports import Random
from flare_async.roles.client import SiteResult, SiteTask
from flare_async.sim.loadtest.setting import Behaviour
from flare_async.transfer.tensors import TensorSet

__all__ = ["AddsOne", "Links", "SiteLinks"]

AT_ONCE: Final = 64  # connections that are being made


@dataclass(slots=True)
class Links:
    """The network of one process: knows each site's link, so that it can be cut."""

    network: Transports
    cuts: int = 0
    _making: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(AT_ONCE))
    _links: dict[str, Link] = field(default_factory=dict)

    async def connect(self, address: str, site: str) -> Link:
        """Connect for a site; waits its turn, then as the network does."""
        async with self._making:
            link = await self.network.connect(address)
        self._links[site] = link
        return link

    def cut(self, site: str) -> None:
        """End a site's link without a word."""
        self.cuts += 1
        self._links[site].abort()


@dataclass(frozen=True, slots=True)
class SiteLinks:
    """The network as one site sees it."""

    links: Links
    site: str

    async def connect(self, address: str) -> Link:
        """Connect as this site; raises as the network does."""
        return await self.links.connect(address, self.site)

    async def listen(self, address: str) -> Listener:
        """Listen; raises as the network does."""
        return await self.links.network.listen(address)


@dataclass(frozen=True, slots=True)
class AddsOne:
    """A worker whose result is the model plus one."""

    site: str
    behaviour: Behaviour
    random: Random
    links: Links

    async def run(self, task: SiteTask) -> SiteResult:
        """Work on one task: lose the link, take time, fail, or answer, as the seed says.

        Waits as long as the behaviour says. Raises TrainingFailed.
        """
        how = self.behaviour
        dice = self.random.once(f"{self.site}, round {task.round_number}")
        if dice.random() < how.drop:
            self.links.cut(self.site)
        is_slow = self.random.once(self.site).random() < how.slow
        seconds = how.train_time + (how.slow_time if is_slow else 0.0)
        if seconds:
            await anyio.sleep(seconds)
        if dice.random() < how.fail:
            raise TrainingFailed(self.site, "fails because the load test says so")
        made = {name: np.add(array, np.float32(1)) for name, array in task.tensors.numpy().items()}
        return SiteResult(TensorSet.from_params(made), "FULL", {})
