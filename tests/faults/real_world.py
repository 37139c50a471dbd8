"""A server and its sites on any network; a site may have a network and limits of its own."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

import anyio
import numpy as np

from flare_async.errors import FlareError
from flare_async.limits import KIB
from flare_async.net.clock import LoopClock
from flare_async.net.rng import SeededRandom
from flare_async.roles.client import Client, SiteResult
from flare_async.roles.cohort import Cohort
from flare_async.roles.context import Context, open_context
from flare_async.roles.round import RoundTask
from flare_async.roles.server import Server
from flare_async.transfer.downloader import Downloader
from flare_async.transfer.pull import LayoutCache
from flare_async.transfer.tensors import TensorSet
from tests.roles.federation import Seen

__all__ = ["Eager", "Validates", "World", "model", "until", "world"]

UNTIL_SECONDS = 15.0  # a condition that is not met by then never is


class Eager(SeededRandom):
    """Seeded random numbers whose pauses before another dial are short; the seed may be a name."""

    def __init__(self, seed: int | str) -> None:
        super().__init__(seed)  # type: ignore[arg-type]

    def stream(self, name: str) -> random.Random:
        """Return the generator of that name; a patient one is made eager."""
        return EAGER if name in {"redial", "dial"} else super().stream(name)


class Shortly(random.Random):
    """Draws from the lowest hundredth."""

    def uniform(self, a: float, b: float) -> float:
        """Return a number near ``a``."""
        return a + (b - a) * 0.01


EAGER = Shortly(1)


class Validates:
    """A worker that brings metrics only: the digest of the model that it has received."""

    def __init__(self):
        self.digests = []

    async def run(self, task):
        """Work on one task."""
        self.digests.append(task.tensors.model_digest())
        return SiteResult(None, "FULL", {"bytes": float(task.tensors.nbytes)})


def model(kibibytes=1024, names=("w",)):
    """Return tensors of so many KiB in all, whose bytes tell offsets and names apart."""
    dice = np.random.default_rng(11)
    each = kibibytes * KIB // len(names) // 4
    arrays = {name: dice.standard_normal(each, dtype=np.float32) for name in names}
    return TensorSet.from_params(arrays)


@dataclass
class World:
    """A running federation, as a test holds it."""

    context: Context
    server: Server
    cohort: Cohort
    seen: Seen
    address: str
    clients: dict = field(default_factory=dict)
    scopes: dict = field(default_factory=dict)
    left: dict = field(default_factory=dict)

    def start(self, name, worker, *, address=None, **ports):
        """Let a site join; its own ``network``, ``limits`` or ``random`` may be given."""
        context = replace(self.context, **ports)
        context = replace(context, downloader=Downloader(context.limits, LayoutCache()))
        client = self.clients[name] = Client(context, name, worker)
        address = address or self.address
        self.context.tasks.start_soon(self._join, client, address, name=f"site {name}")

    async def _join(self, client, address):
        self.left[client.name] = "cancelled"
        with suppress(FlareError), anyio.CancelScope() as self.scopes[client.name]:
            self.left[client.name] = "running"
            try:
                await client.run(address)
                self.left[client.name] = "dismissed"
            except FlareError as error:
                self.left[client.name] = str(error)
                raise

    async def validate(self, number, tensors, **options):
        """Run a round that asks all sites for metrics; return the sites in order of arrival."""
        task = RoundTask("job", number, 9, "validate")
        async with self.cohort.round(task, tensors, **options) as updates:
            return [site async for site, _ in updates]

    def ended(self, number=0):
        """Return when each site's part of a round ended, in seconds since its start."""
        parts = {site: r for (at, site), r in self.seen.records.items() if at == number}
        return {site: record.ended - record.started for site, record in parts.items()}

    def reason(self, site, number=0):
        """Return why a site's part of a round failed."""
        return self.seen.records[number, site].reason


@asynccontextmanager
async def world(sites, network, limits, *, address="sim://server", seed=7):
    """Yield a server that listens and a cohort of ``sites``, none of which has joined yet."""
    async with open_context(LoopClock(), Eager(seed), network, limits) as context:
        server, seen = Server(context), Seen()
        async with server.listen(address) as real:
            yield World(context, server, Cohort(server, sites, seen), seen, real)


async def until(fulfilled, *, seconds=UNTIL_SECONDS):
    """Let the loop turn until something holds; fail when that takes too long."""
    with anyio.fail_after(seconds):
        while not fulfilled():
            await asyncio.sleep(0.002)
