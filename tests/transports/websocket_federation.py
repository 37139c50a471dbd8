"""A federation of real roles over WebSockets, whose clients may dial another address."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np

from flare_async.errors import FlareError
from flare_async.limits import Limits
from flare_async.net.clock import LoopClock
from flare_async.net.registry import Transports
from flare_async.net.rng import SystemRandom
from flare_async.roles.client import Client
from flare_async.roles.cohort import Cohort
from flare_async.roles.context import open_context
from flare_async.roles.round import RoundTask
from flare_async.roles.server import Server
from flare_async.transfer.mean import WeightedMean
from flare_async.transfer.tensors import TensorSet
from tests.roles.federation import Seen, Trains

VALUES = 750_000  # 3 MB: more than nginx takes in a body, and many of its buffers
STEPS = {"site-1": 1.0, "site-2": 3.0}
EXPECTED = 5.0  # ones, and twice the mean of both steps


async def two_rounds(through, *, scheme="ws", credentials=None, sites=None) -> float:
    """Play two rounds of FedAvg; return the only value that all weights then have.

    ``through`` is an asynchronous context manager from the server's address to the one to dial.
    """
    limits = Limits(start_timeout=10)
    clock, random, network = LoopClock(), SystemRandom(), Transports(limits, credentials)
    networks = {name: Transports(limits, one) for name, one in (sites or {}).items()}
    async with open_context(clock, random, network, limits) as context:
        server = Server(context)
        async with (
            server.listen(f"{scheme}://127.0.0.1:0") as address,
            through(address) as dialled,
        ):
            for name in STEPS:
                made = replaced(context, networks.get(name, network))
                context.tasks.start_soon(join, made, name, dialled)
            await server.wait_for(list(STEPS), len(STEPS))
            return await play(Cohort(server, list(STEPS), Seen(), None))


async def play(cohort: Cohort) -> float:
    """Run the rounds, each on what the one before has left."""
    model = TensorSet.from_params({"w": np.ones(VALUES, np.float32)})
    for number in range(2):
        with WeightedMean(model, order=list(STEPS)) as mean:
            async with cohort.round(
                RoundTask("job", number, 2),
                model,
                reducer=mean,
                weigh=lambda site, meta: meta["weight"],
                sites=list(STEPS),
            ) as updates:
                arrived = [site async for site, _ in updates]
            assert sorted(arrived) == sorted(STEPS)
            model = mean.finish()
    (value,) = set(model.numpy()["w"].tolist())
    return value


async def join(context, name: str, address: str) -> None:
    """Serve one site until the federation ends."""
    with suppress(FlareError):
        await Client(context, name, Trains(STEPS[name])).run(address)


def replaced(context, network):
    """Return the same context with another network: a site has its own certificate."""
    return replace(context, network=network)
