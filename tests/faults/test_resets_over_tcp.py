"""F06 on real sockets: a proxy resets the connection at drawn bytes; the model arrives once."""

from __future__ import annotations

import asyncio
import random

import pytest
import uvloop

from flare_async.limits import MIB, Limits
from flare_async.net.clock import LoopClock
from flare_async.net.registry import Transports
from flare_async.net.rng import SeededRandom
from flare_async.roles.cohort import Cohort
from flare_async.roles.context import open_context
from flare_async.roles.server import Server
from flare_async.testing import ToxicProxy
from tests.faults.world import Site, World, model_of
from tests.roles.federation import Federation, Seen

LOOPS = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}
LIMITS = Limits(window_bytes=256 * 1024, link_bytes=MIB, frame_bytes=64 * 1024, retry_cap=0.05)
RESETS = 10


class Proxied(World):
    """A federation whose site connects through a proxy."""

    join = Federation.join


async def pull_through(resets):
    """Run one round through a proxy that resets; return what it counted and the mean's bytes."""
    clock, seen, model = LoopClock(), Seen(), model_of(16 * MIB)
    async with open_context(clock, SeededRandom(1), Transports(LIMITS), LIMITS) as context:
        server = Server(context)
        async with server.listen("tcp://127.0.0.1:0") as address, ToxicProxy(address) as proxy:
            proxy.reset_at(resets)
            cohort = Cohort(server, ["a"], seen, None)
            made = Proxied(server, cohort, seen, {}, None, proxy.address)
            context.tasks.start_soon(made.join, "a", Site(1))
            await server.wait_for(["a"], 1)
            mean, _ = await made.round(model)
            counts = proxy.down.payload, proxy.resets, len(proxy.connections)
            context.tasks.cancel_scope.cancel()
        return mean.tobytes(), counts
    return mean.tobytes(), counts


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_f06_ten_resets_cost_no_more_than_the_windows_in_flight(loop):
    """The payload sent, counted by the proxy, is the model and at most a window a reset."""
    size = 16 * MIB
    dice = random.Random("resets")
    resets = sorted(dice.randrange(1000, size) for _ in range(RESETS))
    with asyncio.Runner(loop_factory=loop) as runner:
        mean, (payload, struck, connections) = runner.run(pull_through(resets))
    assert mean == (model_of(size).numpy()["w"] + 1).tobytes()
    assert (struck, connections) == (RESETS, RESETS + 1)
    assert size <= payload <= 1.01 * size + RESETS * LIMITS.window_bytes
