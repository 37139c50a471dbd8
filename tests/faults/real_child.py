"""Programs that run in a child process: ``python -m tests.faults.real_child NAME ARGUMENT...``.

They talk in lines: what they have reached goes to standard output, commands come on standard input.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from pathlib import Path

import structlog

from flare_async.limits import KIB, MIB, Limits
from flare_async.net.registry import Transports
from flare_async.roles.round import RoundTask
from flare_async.transfer.mean import MeanOptions, WeightedMean
from tests.faults.real_ends import acceptor
from tests.faults.real_shelf import ShelfOf, tensors
from tests.faults.real_world import Validates, model, until, world
from tests.roles.federation import Trains
from tests.transports.loops import LOOPS

SITES = ("a", "b", "c")
MODEL = model(256)
# Calls a link silent after 0.6 s.
STOPPED = {
    "heartbeat_interval": 0.2,
    "handshake_timeout": 0.6,
    "stall_timeout": 1.0,
    "send_timeout": 10.0,
    "retry_cap": 4.0,
    "session_grace": 20.0,
}
# A killed site is missed after 2 s, and its windows are small beside what it uploads.
KILLED = STOPPED | {
    "heartbeat_interval": 0.5,
    "handshake_timeout": 2.0,
    "send_timeout": 2.0,
    "retry_cap": 1.0,
    "session_grace": 2.0,
    "window_bytes": 256 * KIB,
    "link_bytes": MIB,
    "frame_bytes": 64 * KIB,
}
NOWHERE = "tcp://127.0.0.1:0"
PRESSED_KIB = 16 * KIB  # a model four times as large as what is staged
FEW = 48  # descriptors


def say(*words: object) -> None:
    """Tell the parent."""
    print(*words, flush=True)


class Commands:
    """Lines of standard input."""

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        made = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        self._transport, self._reader = made[0], reader
        return self

    async def __aexit__(self, *exc):
        self._transport.close()

    async def wait_for(self, word: str) -> None:
        """Wait for a line; the parent ends this process if it never comes."""
        line = (await self._reader.readline()).decode().strip()
        assert line == word, (line, word)


async def offers(mebibytes: str) -> None:
    """Serve a model until told to end; then tell what was in flight at each loss."""
    limits = Limits(retry_cap=4.0)
    source = tensors(int(mebibytes) * MIB)
    async with Commands() as commands:
        shelf = ShelfOf(source, limits)
        async with acceptor(Transports(limits), NOWHERE, limits, shelf.serve) as made:
            ref = shelf.put(made)
            say(made.address, ref.key, ref.layout.hex(), ref.nbytes)
            await commands.wait_for("end")
            say(*made.reception.in_flight)


async def server() -> None:
    """Run rounds with three sites that live in the parent; tell what it saw."""
    limits = Limits(**STOPPED)
    with structlog.testing.capture_logs() as logs:
        async with (
            Commands() as commands,
            world(SITES, Transports(limits), limits, address=NOWHERE, seed="child") as made,
        ):
            say(made.address)
            await made.server.wait_for(SITES, 3)
            sessions = dict(made.server.sites)
            say("ready")
            for number in range(3):
                await commands.wait_for("round")
                say(number, *sorted(await made.validate(number, MODEL)))
            same = sum(made.server.sites.get(site) is sessions[site] for site in SITES)
            lost = sum(log["event"] == "session_ended" for log in logs)
            say(same, lost, *(sessions[site].epoch for site in SITES))


class Blocks(Validates):
    """A worker that keeps the loop to itself."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    async def run(self, task):
        """Work, and block."""
        time.sleep(self._seconds)
        return await super().run(task)


async def client(name: str, address: str, seconds: str) -> None:
    """Be a site, whose work blocks for so long, until the server says goodbye."""
    limits = Limits(**STOPPED)
    async with world((), Transports(limits), limits, address=NOWHERE, seed=name) as made:
        made.start(name, Blocks(float(seconds)), address=address)
        await until(lambda: made.left.get(name) not in {None, "running"})
        say(made.left[name], *made.context.lag.blocked)


async def uploads(name: str, address: str, step: str, weight: str) -> None:
    """Be a site that adds a number, until the server says goodbye or this process is killed."""
    limits = Limits(**KILLED)
    async with world((), Transports(limits), limits, address=NOWHERE, seed=name) as made:
        made.start(name, Trains(float(step), weight=float(weight)), address=address)
        say("started")
        await until(lambda: made.left.get(name) not in {None, "running"}, seconds=60.0)


async def aggregates(staging: str) -> None:
    """Be a server of four sites with so many MiB to stage in; tell bits, bytes and memory."""
    limits = Limits(**KILLED | {"staging_bytes": int(staging) * MIB, "stall_timeout": 10.0})
    sites = ("slow", "s1", "s2", "s3")
    async with world(sites, Transports(limits), limits, address=NOWHERE, seed="child") as made:
        say(made.address)
        await made.server.wait_for(sites, 4)
        before = most_resident()
        tensors = model(PRESSED_KIB)
        options = MeanOptions(accumulator="float32")
        with WeightedMean(tensors, order=sites, limits=limits, options=options) as mean:
            task = RoundTask("job", 0, 1, keep_until="received")
            async with made.cohort.round(task, tensors, reducer=mean) as updates:
                say(len([site async for site, _ in updates]))
            counted = mean.statistics
            digest = mean.finish().model_digest()
        say(digest, counted.staged_bytes, counted.spilled_bytes, most_resident() - before)


def most_resident() -> int:
    """Return the most bytes of memory that this process has had so far."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * KIB


async def blocks(seconds: str) -> None:
    """Be a server whose user code keeps the loop to itself once a round."""
    limits = Limits(**STOPPED)

    def weigh(site, meta):
        if site == SITES[0]:
            time.sleep(float(seconds))
        return 1.0

    async with (
        Commands() as commands,
        world(SITES, Transports(limits), limits, address=NOWHERE, seed="child") as made,
    ):
        say(made.address)
        await made.server.wait_for(SITES, 3)
        await commands.wait_for("round")
        say(*sorted(await made.validate(0, MODEL, weigh=weigh)))
        say(*(made.server.sites[site].epoch for site in SITES), *made.context.lag.blocked)


async def descriptors() -> None:
    """Serve with few descriptors; use them up and free them on command."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, soft))
    limits = Limits(handshake_timeout=1.0, retry_cap=1.0)
    shelf = ShelfOf(tensors(MIB), limits)
    unhandled: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: unhandled.append(context["message"]))
    async with (
        Commands() as commands,
        acceptor(Transports(limits), NOWHERE, limits, shelf.serve) as made,
    ):
        ref = shelf.put(made)
        say(made.address, ref.key, ref.layout.hex(), ref.nbytes)
        await commands.wait_for("exhaust")
        taken = exhaust()
        say(len(taken))
        await commands.wait_for("free")
        for number in taken:
            os.close(number)
        say("freed")
        await commands.wait_for("end")
        say(len(made.sessions), *sorted(set(unhandled)))


def exhaust() -> list[int]:
    """Open descriptors until there are no more."""
    taken = []
    while True:
        try:
            taken.append(os.dup(0))
        except OSError:
            return taken


PROGRAMS = {
    one.__name__: one for one in (offers, server, client, uploads, aggregates, blocks, descriptors)
}

if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    loop_name, program, *arguments = sys.argv[1:]
    with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
        runner.run(PROGRAMS[program](*arguments))
    say("ended")
