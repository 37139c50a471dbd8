"""A federation on a simulated network with faults, one view of the network a site."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import asynccontextmanager, suppress

import anyio
import numpy as np

from flare_async.errors import FlareError
from flare_async.limits import KIB, MIB, Limits
from flare_async.net.clock import LoopClock
from flare_async.net.rng import SeededRandom
from flare_async.roles.client import Client
from flare_async.roles.cohort import Cohort
from flare_async.roles.context import open_context
from flare_async.roles.round import RoundTask
from flare_async.roles.server import Server
from flare_async.testing import SimNetwork
from flare_async.transfer.mean import WeightedMean
from flare_async.transfer.tensors import TensorSet
from tests.roles.federation import Federation, Seen, Trains

__all__ = ["SMALL_WINDOWS", "Site", "World", "model_of", "now", "world"]

SMALL_WINDOWS = Limits(window_bytes=256 * KIB, link_bytes=MIB, frame_bytes=64 * KIB)


def now():
    """Return virtual seconds."""
    return asyncio.get_running_loop().time()


def model_of(nbytes):
    """Return a model of so many bytes that differ."""
    return TensorSet.from_params({"w": np.arange(nbytes // 4, dtype=np.float32)})


class Site(Trains):
    """A worker that counts its trainings: an effect that must happen once."""

    def __init__(self, step=1.0, **options):
        super().__init__(step, **options)
        self.finished = 0

    async def run(self, task):
        """Work on one task."""
        result = await super().run(task)
        self.finished += 1
        return result


class World(Federation):
    """A federation whose sites have network views of their own."""

    async def join(self, name, worker):
        """Serve one site through its own view of the network."""
        seen = dataclasses.replace(self.context, network=self.network.of(name))
        client = self.clients[name] = Client(seen, name, worker)
        with suppress(FlareError), anyio.CancelScope() as self.scopes[name]:
            await client.run(self.address)

    async def round(self, model, number=0, **options):
        """Run one round of a model; return the mean, and how long it took."""
        began = now()
        task = RoundTask("job", number, 9)
        with WeightedMean(model, order=self.cohort.sites) as mean:
            async with self.cohort.round(
                task, model, reducer=mean, weigh=lambda _, meta: meta["weight"], **options
            ) as updates:
                arrived = [site async for site, _ in updates]
            assert len(arrived) == len(set(arrived)), "S1: one contribution a site"
            return mean.finish().numpy()["w"].copy(), now() - began


@asynccontextmanager
async def world(workers, *faults, limits=None, seed=7, **options):
    """Yield a world in which every site has come; leave it without a trace."""
    limits = limits or Limits()
    clock, random = LoopClock(), SeededRandom(seed)
    network = SimNetwork(clock, random, limits=limits, faults=faults, **options)
    async with open_context(clock, random, network, limits) as context:
        server, seen = Server(context), Seen()
        async with server.listen("sim://server") as address:
            cohort = Cohort(server, list(workers), seen, None)
            made = World(server, cohort, seen, {}, network, address)
            for name, worker in workers.items():
                context.tasks.start_soon(made.join, name, worker)
            await server.wait_for(list(workers), len(workers))
            yield made
