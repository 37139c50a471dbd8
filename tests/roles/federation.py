"""A small federation of real roles on one loop, over memory or a simulated network."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import anyio
import numpy as np

from flare_async.errors import FlareError
from flare_async.limits import Limits
from flare_async.net.clock import LoopClock
from flare_async.net.registry import Transports
from flare_async.net.rng import SeededRandom
from flare_async.roles.client import Client, SiteResult
from flare_async.roles.cohort import Cohort
from flare_async.roles.context import open_context
from flare_async.roles.round import RoundTask
from flare_async.roles.server import Server
from flare_async.testing.network import SimNetwork
from flare_async.transfer.mean import WeightedMean
from flare_async.transfer.tensors import TensorSet
from flare_async.transports import memory as _imported_before_the_loop  # noqa: F401

SCHEMES = ("memory", "sim")
MODEL = TensorSet.from_params({"w": np.arange(6, dtype=np.float32).reshape(2, 3)})


class Trains:
    """A worker that adds ``step`` to the model, after ``seconds``, or raises ``error``."""

    def __init__(self, step=1.0, *, seconds=0.0, weight=1.0, error=None):
        self.step, self.seconds, self.weight, self.error = step, seconds, weight, error
        self.tasks, self.cancelled = [], 0
        self.began = anyio.Event()

    async def run(self, task):
        """Work on one task."""
        self.tasks.append(task)
        self.began.set()
        try:
            await anyio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        params = {name: array + np.float32(self.step) for name, array in moved(task.tensors)}
        tensors = TensorSet.from_params(params)
        return SiteResult(tensors, "FULL", {"step": self.step}, {"weight": self.weight}, 0.5)


def moved(tensors):
    """Return the named arrays of a set."""
    return tensors.numpy().items()


@dataclass
class Seen:
    """An observer of rounds that keeps what it is told."""

    started: list = field(default_factory=list)
    records: dict = field(default_factory=dict)

    def site_started(self, number, site):
        """Keep that a site was given its task."""
        self.started.append((number, site))

    def site_finished(self, number, record):
        """Keep how it ended; it may end once."""
        assert (number, record.site) not in self.records
        self.records[number, record.site] = record

    def status(self, number=0):
        """Return how each site's part of a round ended."""
        return {site: str(r.status) for (at, site), r in self.records.items() if at == number}


@dataclass
class Federation:
    """What a test holds of a running federation."""

    server: Server
    cohort: Cohort
    seen: Seen
    clients: dict
    network: object
    address: str
    scopes: dict = field(default_factory=dict)

    @property
    def context(self):
        """What the roles share."""
        return self.server.context

    async def join(self, name, worker):
        """Serve one more site until the federation or its session ends."""
        client = self.clients[name] = Client(self.context, name, worker)
        with suppress(FlareError), anyio.CancelScope() as self.scopes[name]:
            await client.run(self.address)

    async def play(self, number=0, *, sites=None, reducer=True, over_select=1.0, **options):
        """Run one round; return the sites in their order of arrival and the mean."""
        size = options.get("size")
        chosen = self.cohort.choose(number, size, over_select) if sites is None else sites
        task = RoundTask("job", number, 3)
        arrived = []
        with WeightedMean(MODEL, order=chosen) as mean:
            async with self.cohort.round(
                task,
                MODEL,
                **options,
                reducer=mean if reducer else None,
                weigh=lambda site, meta: meta["weight"],
                sites=chosen,
            ) as updates:
                async for site, update in updates:
                    assert site == update.site
                    arrived.append(update)
                result = mean.finish() if reducer else None
        return arrived, result


@asynccontextmanager
async def federation(workers, *, scheme="memory", limits=None, seed=7, window=None):
    """Yield a server to which a client for each worker is connected."""
    limits = limits or Limits()
    clock, random = LoopClock(), SeededRandom(seed)
    network = Transports(limits)
    if scheme == "sim":
        network = SimNetwork(clock, random, limits=limits)
    async with open_context(clock, random, network, limits) as context:
        server, seen = Server(context), Seen()
        async with server.listen(f"{scheme}://server") as address:
            cohort = Cohort(server, list(workers), seen, window)
            made = Federation(server, cohort, seen, {}, network, address)
            for name, worker in workers.items():
                context.tasks.start_soon(made.join, name, worker)
            await server.wait_for(list(workers), len(workers))
            yield made


def crash(made, site):
    """Let a site die without a goodbye: its connection breaks, and it does not dial again."""
    link = made.server.sites[site].link
    if not hasattr(link, "cut"):
        link._peer.abort()
        return
    link.cut()

    async def die():
        while made.server.sites[site].attached:
            await asyncio.sleep(0.001)
        made.scopes[site].cancel()

    made.context.tasks.start_soon(die)


async def settle(turns=50):
    """Let everything that is ready run, and what it makes ready."""
    for _ in range(turns):
        await asyncio.sleep(0.01)


def values(tensors):
    """Return the model's first tensor as plain numbers."""
    return tensors.numpy()["w"].ravel().tolist()


def expected(*shares):
    """Return the model plus the weighted mean of (step, weight) pairs."""
    total = sum(weight for _, weight in shares)
    base = MODEL.numpy()["w"].ravel().astype(np.float64)
    added = sum((base + step) * weight for step, weight in shares) / total
    return added.astype(np.float32).tolist()
