"""F12: a server restarts and all its sites come back; their jitter spreads them."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress

import pytest

from flare_async.errors import FlareError
from flare_async.limits import Limits
from flare_async.net.clock import LoopClock
from flare_async.net.rng import SeededRandom
from flare_async.roles.client import Client
from flare_async.roles.context import open_context
from flare_async.roles.server import Server
from flare_async.testing.network import SimNetwork
from tests.faults.real_world import Validates
from tests.net.peers import now

CALM = tuple(f"calm-{number}" for number in range(20))
AWAY = 5.0
LIMITS = Limits(start_timeout=120.0)


class Counted:
    """A network that notes when somebody dials."""

    def __init__(self, network):
        self.network, self.dials = network, []

    async def connect(self, address):
        """Note and connect."""
        self.dials.append(now())
        return await self.network.connect(address)

    async def listen(self, address):
        """Listen."""
        return await self.network.listen(address)


async def join(context, name, address):
    """Be a site."""
    with suppress(FlareError):
        await Client(context, name, Validates()).run(address)


async def serve(network, seed, body):
    """Be a server that knows of nothing from before, while the body runs."""
    async with open_context(LoopClock(), SeededRandom(seed), network, LIMITS) as context:
        server = Server(context)
        async with server.listen("sim://server"):
            return await body(server)


async def lose_everybody(network, server):
    """Cut all links of a server, so that its end reaches nobody."""
    for link in network.links:
        if link.address == "sim://server":
            link.cut()
    while any(session.attached for session in server.sites.values()):
        await asyncio.sleep(0)


async def play(crowd):
    """Restart a server under a crowd; return when who dialled, when all were back, and the calm."""
    network = SimNetwork(LoopClock(), SeededRandom(8), limits=LIMITS)
    counted = Counted(network)
    async with open_context(LoopClock(), SeededRandom(1), network, LIMITS) as calm:
        other = Server(calm)
        async with other.listen("sim://other") as address:
            for name in CALM:
                calm.tasks.start_soon(join, calm, name, address)
            await other.wait_for(CALM, len(CALM))
            async with open_context(LoopClock(), SeededRandom(2), counted, LIMITS) as sites:

                async def before(server):
                    for name in crowd:
                        sites.tasks.start_soon(join, sites, name, "sim://server")
                    await server.wait_for(crowd, len(crowd))
                    await lose_everybody(network, server)

                async def after(server):
                    await server.wait_for(crowd, len(crowd))
                    return now()

                await serve(network, 3, before)
                counted.dials.clear()
                lost = now()
                await asyncio.sleep(AWAY)
                back = await serve(network, 4, after) - lost
                dials = [when - lost for when in counted.dials]
            beats = [now() - one._links.attachment._heartbeat.heard for one in other.sites.values()]
            return dials, back, beats, [one.epoch for one in other.sites.values()]


def judge(sim, count):
    """Expect all back within a retry's cap, dials well spread, and a calm server undisturbed."""
    dials, back, beats, epochs = sim(lambda: play(tuple(f"s{n}" for n in range(count))))
    tenths = Counter(int(when * 10) for when in dials)
    assert back <= AWAY + LIMITS.retry_cap + 1
    assert max(tenths.values()) <= 0.2 * count
    assert max(tenths[tenth] for tenth in range(10, max(tenths))) <= 0.1 * count
    assert len(dials) <= 6 * count
    assert max(beats) <= LIMITS.heartbeat_interval + 0.1
    assert epochs == [0] * len(CALM)


@pytest.mark.sweep
@pytest.mark.slow
def test_f12_a_thousand_sites_come_back_after_a_restart_without_a_stampede(sim):
    """In no tenth of a second do more than a fifth dial; the issue's 5,000 are a test beside."""
    judge(sim, 1000)
