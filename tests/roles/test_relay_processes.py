"""A tree of three levels whose sites are real processes, over tcp."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from flare_async.limits import Limits
from flare_async.net.clock import LoopClock
from flare_async.net.registry import Transports
from flare_async.net.rng import SystemRandom
from flare_async.roles.cohort import Cohort
from flare_async.roles.context import open_context
from flare_async.roles.relay import Relay
from flare_async.roles.server import Server
from flare_async.roles.start_messages import JobNotice
from flare_async.roles.startup import start_sites
from tests.roles.federation import MODEL, Federation, Seen, values

SITES = [f"s{number}" for number in range(12)]
SILENT = {"s4", "s9"}
PROGRAM = Path(__file__).with_name("relay_process.py")
ANY_PORT = "tcp://127.0.0.1:0"


@contextmanager
def sites_below(addresses):
    """Have every site's process connect to one of the relays while the block lasts."""
    environment = {**os.environ, "PYTHONPATH": str(PROGRAM.parents[2])}
    started = []
    try:
        for number, site in enumerate(SITES):
            kind = "silent" if site in SILENT else "ready"
            words = [sys.executable, str(PROGRAM), addresses[number % len(addresses)], site, kind]
            started.append(subprocess.Popen(words, env=environment))
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


async def play():
    """Start a tree and run a round; return the model, who was left out and how processes ended."""
    limits = Limits(start_timeout=3.0)
    network = Transports(limits)
    async with open_context(LoopClock(), SystemRandom(), network, limits) as context:
        server, seen = Server(context), Seen()
        async with server.listen(ANY_PORT) as root:
            relays = [Relay(context, "r1"), Relay(context, "r2", mode="cache")]
            tops = [await context.tasks.start(relay.run, root, ANY_PORT) for relay in relays]
            with sites_below(tops) as processes:
                while len(server.sites) < len(SITES):
                    await server.directory.changed()
                notice = JobNotice("job", "fedavg", 1, len(SITES))
                report = await start_sites(server, notice, SITES, 10, ("s0",))
                made = Federation(server, Cohort(server, SITES, seen), seen, {}, network, root)
                _, model = await made.play(sites=report.present)
                server.end_sessions(0, "done")
                codes = await asyncio.to_thread(wait_for, processes)
            return values(model), report, codes


def wait_for(processes):
    """Return how the processes ended."""
    return [process.wait(10) for process in processes]


@pytest.mark.sweep
@pytest.mark.slow
@pytest.mark.timeout(90)
def test_12_processes_below_two_relays_start_and_end_without_two_that_never_answer():
    """Both are named; the others do the round, and all end in order at the server's goodbye."""
    model, report, codes = anyio.run(play)
    assert model == (MODEL.numpy()["w"].ravel() + 1).tolist()
    assert set(report.excluded) == SILENT
    assert report.present == tuple(site for site in SITES if site not in SILENT)
    assert codes == [0] * 12
