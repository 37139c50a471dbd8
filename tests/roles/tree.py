"""A federation with relays between server and sites, on one loop."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import asynccontextmanager, suppress

import anyio

from flare_async.errors import FlareError
from flare_async.limits import Limits
from flare_async.net.clock import LoopClock
from flare_async.net.registry import Transports
from flare_async.net.rng import SeededRandom
from flare_async.net.session import Session
from flare_async.roles.client import Client
from flare_async.roles.cohort import Cohort
from flare_async.roles.context import open_context
from flare_async.roles.relay import Relay
from flare_async.roles.server import Server
from flare_async.testing.network import SimNetwork
from flare_async.wire.session import Side
from tests.roles.federation import Federation, Seen

ONE = {"r1": "server"}


class Tree(Federation):
    """A federation whose sites connect to relays; each role has a view of the network."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.relays = {}

    def seen_by(self, name, limits=None):
        """Return the context as one role has it."""
        limits = limits or self.context.limits
        if isinstance(self.network, SimNetwork):
            view = self.network.of(name)
            return dataclasses.replace(self.context, network=view, limits=limits)
        return dataclasses.replace(self.context, limits=limits)

    def at(self, name):
        """Return the address of a role that listens."""
        return f"{self.address.partition('://')[0]}://{name}"

    async def relay(self, name, parent="server", **options):
        """Serve as a relay until the tree ends or it is cancelled."""
        made = self.relays[name] = Relay(self.seen_by(name), name, **options)
        with suppress(FlareError), anyio.CancelScope() as self.scopes[name]:
            await made.run(self.at(parent), self.at(name))

    async def site(self, name, worker, parent, limits=None, **options):
        """Serve as a site below ``parent``."""
        client = self.clients[name] = Client(self.seen_by(name, limits), name, worker, **options)
        with suppress(FlareError), anyio.CancelScope() as self.scopes[name]:
            await client.run(self.at(parent))

    def start(self, what, *args, **options):
        """Start a relay or a site in the background."""
        self.context.tasks.start_soon(lambda: what(*args, **options))


@asynccontextmanager
async def tree(relays, workers, *, scheme="sim", limits=None, network=None, **options):
    """Yield a tree: ``relays`` maps names to parents, ``workers`` (parent, name) to workers.

    ``network`` are options of the simulated network, all others those of the relays.
    """
    limits = limits or Limits()
    clock, random = LoopClock(), SeededRandom(7)
    if scheme == "sim":
        network = SimNetwork(clock, random, limits=limits, **(network or {}))
    else:
        network = Transports(limits)
    async with open_context(clock, random, network, limits) as context:
        server, seen = Server(context), Seen()
        async with server.listen(f"{scheme}://server") as address:
            sites = [name for _, name in workers]
            made = Tree(server, Cohort(server, sites, seen), seen, {}, network, address)
            for name, parent in relays.items():
                made.start(made.relay, name, parent, **options)
            await asyncio.sleep(1 if scheme == "sim" else 0.01)
            for (parent, name), worker in workers.items():
                made.start(made.site, name, worker, parent)
            await server.wait_for(sites, len(sites))
            yield made


@asynccontextmanager
async def joined(made, name, address, role="client"):
    """Yield a bare session with whoever listens, under a name and a role."""
    link = await made.network.connect(address)
    async with Session(link, Side.CONNECTOR, made.context.endpoint(name, role)) as session:
        await asyncio.sleep(0.1)
        yield session
