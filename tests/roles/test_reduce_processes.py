"""F23 with a real process: a relay that holds a sum is killed and started again."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anyio
import numpy as np
import pytest

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
from tests.faults.world import Site
from tests.roles.federation import MODEL, Seen, expected, values

PROGRAM = Path(__file__).with_name("reduce_process.py")


@contextmanager
def relay_at(parent, listen):
    """Run the relay's process while the block lasts; yields it and its address."""
    environment = {**os.environ, "PYTHONPATH": str(PROGRAM.parents[2])}
    words = [sys.executable, str(PROGRAM), parent, listen]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


class Waits(Site):
    """A site that does not answer its first task."""

    async def run(self, task):
        """Work on one task."""
        self.seconds = 0 if self.tasks else 600
        return await super().run(task)


async def scene(stack):
    """Run one round in which the relay is killed with one of two updates in its sum."""
    limits = Limits()
    network = Transports(limits)
    async with open_context(LoopClock(), SystemRandom(), network, limits) as context:
        server, seen = Server(context), Seen()
        async with server.listen("tcp://127.0.0.1:0") as root:
            starting = relay_at(root, "tcp://127.0.0.1:0")
            process, address = await asyncio.to_thread(stack.enter_context, starting)
            first, second = Site(1, weight=3.0), Waits(5)
            for name, worker in (("a", first), ("b", second)):
                context.tasks.start_soon(Client(context, name, worker).run, address)
            await server.wait_for(["a", "b"], 2)
            cohort = Cohort(server, ["a", "b"], seen)
            with WeightedMean(MODEL, order=["a", "b"]) as mean:
                async with cohort.round(
                    RoundTask("job", 0, 1), MODEL, reducer=mean, weigh=weigh
                ) as updates:
                    while updates._machine._held != [1]:
                        await asyncio.sleep(0.01)
                    process.kill()
                    again = relay_at(root, address)
                    await asyncio.to_thread(stack.enter_context, again)
                    arrived = [site async for site, _ in updates]
                    result = mean.finish()
            assert sorted(arrived) == ["a", "b"]
            return values(result), seen.status(), first.finished, second.finished


def weigh(site, meta):
    """Return the weight that a site asks for."""
    return meta["weight"]


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_f23_a_killed_relay_that_is_started_again_adds_its_sites_once():
    """The sum that it held is gone; both sites get their task again and count once."""
    with ExitStack() as stack:
        model, status, *finished = anyio.run(scene, stack)
    assert np.allclose(model, expected((1, 3), (5, 1)), rtol=1e-6)
    assert status == {"a": "ok", "b": "ok"}
    assert finished == [2, 1]
