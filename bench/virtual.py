"""What others get beside a reader that has stopped (F01), exactly: in virtual time.

The product's sessions and transfers on a simulated network, where each direction of a link carries
so many bytes a second and processors cost nothing: what one peer can take from another is then what
the protocol and the server take, and the figure is the same on every machine. Once 32 peers with a
link each, one of which takes in nothing any more; and once 32 channels of one link, where the
reader that stalls has the others in its own queue.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import anyio
import numpy as np

from bench.table import Row
from flare_async.limits import Limits
from flare_async.net.clock import LoopClock
from flare_async.net.link import Link, Listener
from flare_async.net.session import Session
from flare_async.roles.context import Context, open_context
from flare_async.testing import SeededRandom, SimNetwork, run_sim
from flare_async.transfer.pull import PULL_SCHEMA, PULL_TOPIC, PullRequest, TensorRef
from flare_async.transfer.shelf import Shelf
from flare_async.transfer.sink import MemorySink
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.tensors import TensorSet
from flare_async.wire.session import OpenOptions, Side

__all__ = ["Virtual", "virtual_rows"]

TARGET: Final = 0.95
ADDRESS: Final = "sim://origin"
LATENCY: Final = (0.005, 0.005)


@dataclass(frozen=True, slots=True)
class Virtual:
    """Who pulls what over what; ``links`` is 1 or one for each reader."""

    readers: int = 31
    links: int = 32
    nbytes: int = 8_000_000
    bandwidth: float = 12_500_000.0  # 100 Mbit/s

    def __str__(self) -> str:
        shared = "a link each" if self.links > 1 else "one link"
        return f"virtual, {self.readers} readers, {shared}"


def virtual_rows(*cases: Virtual) -> list[Row]:
    """Compute the cases and return their rows."""
    rows = []
    for case in cases or (Virtual(), Virtual(links=1)):
        seconds = [run_sim(partial(_seconds, case, stalled=stalled)) for stalled in (False, True)]
        size = case.nbytes * case.readers / 1e6
        alone, beside = (size / each for each in seconds)
        row = Row(str(case), "all of them, beside a stalled reader", beside, "MB/s")
        rows.append(row.against("without it", alone))
        rows.append(Row(str(case), "ratio", beside / alone).against("target, at least", TARGET))
    return rows


async def _seconds(case: Virtual, *, stalled: bool) -> float:
    """Return the virtual seconds until the last of the readers has everything."""
    clock, random, limits = LoopClock(), SeededRandom(1), Limits()
    network = SimNetwork(clock, random, latency=LATENCY, bandwidth=case.bandwidth, limits=limits)
    async with open_context(clock, random, network, limits) as context:
        shelf = context.shelf("origin")
        ref = shelf.put(_tensors(case.nbytes)).ref
        async with _connected(context, case, shelf) as sessions:
            if stalled:
                await _stall(sessions[-1], ref)
            if stalled and case.links > 1:
                network.links[-1].freeze()
            began = clock.now()
            async with anyio.create_task_group() as group:
                for number in range(case.readers):
                    group.start_soon(_fetch, context, sessions[number % len(sessions)], ref)
            return clock.now() - began


async def _fetch(context: Context, session: Session, ref: TensorRef) -> None:
    await context.downloader.fetch(session, ref, MemorySink())


async def _stall(session: Session, ref: TensorRef) -> None:
    """Pull, take the first windows, and then nothing more."""
    request = PULL_SCHEMA.encode(PullRequest(ref.key, "tensor", 0, ref.nbytes))
    channel = session.open(PULL_TOPIC, request, OpenOptions(end=True))
    while channel.statistics().received < ref.nbytes // 2:
        await channel.receive()


def _tensors(nbytes: int) -> TensorSet:
    spec = TensorSpec("tensor", "U8", (nbytes,))
    return TensorSet.from_views([spec], {"tensor": np.zeros(nbytes, np.uint8).data})


@asynccontextmanager
async def _connected(context: Context, case: Virtual, shelf: Shelf) -> AsyncIterator[list[Session]]:
    """Connect one session a link; they end with the block."""
    listener = await context.network.listen(ADDRESS)
    context.tasks.start_soon(_accept, context, listener, shelf)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(listener.aclose)
        sessions = []
        for number in range(case.links):
            link = await context.network.connect(ADDRESS)
            endpoint = context.endpoint(f"reader-{number}", "client")
            session = Session(link, Side.CONNECTOR, endpoint)
            sessions.append(await stack.enter_async_context(session))
        yield sessions


async def _accept(context: Context, listener: Listener, shelf: Shelf) -> None:
    async for link in listener:
        context.tasks.start_soon(_serve, context, link, shelf)


async def _serve(context: Context, link: Link, shelf: Shelf) -> None:
    endpoint = context.endpoint("origin", "server")
    session = Session(link, Side.ACCEPTOR, endpoint)
    shelf.attach(session)  # a pull may come together with the hello
    async with session:
        async for _ in session:
            continue
