"""A swarm in virtual time: server, sites with desks and disks, and ways to lose a site."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import numpy as np

from flare_async import FLModel
from flare_async.errors import FlareError
from flare_async.jobs.cohort import CohortSetting, JobCohort
from flare_async.jobs.desk import DeskSetting
from flare_async.jobs.places import is_users
from flare_async.jobs.run import Run
from flare_async.jobs.site import SiteInfo
from flare_async.jobs.site_store import SiteStore
from flare_async.jobs.site_worker import SiteWorker
from flare_async.jobs.spawners import InlineSpawner
from flare_async.limits import Limits
from flare_async.net.clock import LoopClock
from flare_async.net.rng import SeededRandom
from flare_async.roles.client import Client
from flare_async.roles.context import open_context
from flare_async.roles.server import Server
from flare_async.testing.disk import SimDisk
from flare_async.testing.network import SimNetwork
from flare_async.transfer.tensors import TensorSet

SITES = ("site-1", "site-2", "site-3", "site-4")
SEED = 5
FIRST = np.zeros(8, np.float32)
is_users(__file__)  # the first call of a process looks at the disk, which none of virtual time may


async def steps(model, site):
    """Add a number of the site's own and the round's to the model, after a second or more."""
    await asyncio.sleep(1 + site.index / 10)
    return FLModel(
        params={"w": model.params["w"] + np.float32(step(site.index, site.round_number))}
    )


def step(index, number):
    """Return what a site adds in a round."""
    return (1 + index) * (1 + number)


def swarm_mean(lost=()):
    """Return the model after rounds in which sites of these indices were lost: a set a round."""
    total = 0.0
    for number, gone in enumerate(lost):
        here = [step(index, number) for index in range(len(SITES)) if index not in gone]
        total += sum(here) / len(here)
    return [total] * len(FIRST)


@dataclass
class World:
    """What a test holds of a swarm."""

    server: Server
    run: Run
    disk: SimDisk
    clients: dict = field(default_factory=dict)
    scopes: dict = field(default_factory=dict)
    tasks: list = field(default_factory=list)  # what the desks were asked: (task, round, site)

    def lose(self, site):
        """Let a site stop for good, with all that it holds."""
        self.scopes[site].cancel()

    async def model(self, site, name="FL_global_model.safetensors"):
        """Return the model in a site's files."""
        from safetensors.numpy import load

        return load(await self.disk.read(f"{site}/{name}"))["w"].tolist()


class Watched:
    """A desk that tells of each task before it does it."""

    def __init__(self, desk, site, asked):
        self._desk, self._site, self._asked = desk, site, asked

    def worker(self, task, peers):
        """Tell, and do as the desk does."""
        worker = self._desk.worker(task, peers)
        if worker is not None:
            self._asked(task, self._site)
        return worker

    def over(self, job):
        """Do as the desk does."""
        self._desk.over(job)


@asynccontextmanager
async def world(recipe, *, limits=None, faults=(), asked=lambda task, site: None):
    """Yield a swarm whose sites are connected; ``asked`` sees each task of a desk as it comes."""
    limits, clock, random = limits or Limits(), LoopClock(), SeededRandom(SEED)
    network = SimNetwork(clock, random, limits=limits, faults=faults)
    async with open_context(clock, random, network, limits) as context:
        server, disk = Server(context), SimDisk(clock, random)
        made = World(server, Run("job", recipe.name, Path("/nowhere")), disk)
        async with server.listen("sim://server") as address:
            for index, site in enumerate(SITES):
                own = dataclasses.replace(context, network=network.of(site))
                client = made.clients[site] = member(recipe, own, index, disk, asked)
                context.tasks.start_soon(serve, made, client, address)
            await server.wait_for(SITES, len(SITES))
            yield made


def member(recipe, context, index, disk, asked):
    """Return one site of a swarm."""
    site, spawner = SITES[index], InlineSpawner()
    info = SiteInfo(name=site, index=index, num_sites=len(SITES), seed=SEED)
    rounds = CohortSetting(SEED, None, "received", lambda event: None)
    gate = asyncio.Semaphore(1)
    setting = DeskSetting(site, Path("/nowhere") / site, SiteStore(disk, site), gate, rounds)
    desk = Watched(recipe.desk(setting), site, asked)
    worker = SiteWorker(recipe.work(site), info, spawner)
    return Client(context, site, worker, gate, desk=desk)


async def serve(made, client, address):
    """Serve until the swarm ends or the site is lost; who has lost its session comes back."""
    with anyio.CancelScope() as made.scopes[client.name]:
        while True:
            with suppress(FlareError):
                return await client.run(address)
            await asyncio.sleep(1)


async def played(made, recipe):
    """Play a recipe, and return its cohort."""
    setting = CohortSetting(SEED, None, "received", lambda event: None)
    cohort = JobCohort(made.server, SITES, made.run, made.disk, setting)
    await recipe.coordinate(cohort)
    return cohort


def first_model():
    """Return the model that all sites begin with."""
    return {"w": FIRST.copy()}


def digest(model):
    """Return the digest of named arrays."""
    return TensorSet.from_params(model).model_digest()
