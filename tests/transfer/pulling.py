"""An owner with a shelf and a reader with a downloader, over any transport."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import anyio
import numpy as np
import pytest

from flare_async.errors import TransferError
from flare_async.limits import MIB, Limits
from flare_async.net.clock import LoopClock
from flare_async.net.registry import Transports
from flare_async.net.rng import SeededRandom
from flare_async.testing.network import SimNetwork
from flare_async.testing.pair import connected, link_pair
from flare_async.transfer.downloader import Downloader
from flare_async.transfer.dtypes import DTYPES
from flare_async.transfer.pull import PULL_TOPIC, LayoutCache
from flare_async.transfer.shelf import Shelf
from flare_async.transfer.sink import MemorySink
from flare_async.transfer.source import MemorySource
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.tensors import TensorSet

READER = "connector"
PATIENCE = 10.0
STALLING = Limits(
    stall_timeout=PATIENCE, heartbeat_interval=60.0, send_timeout=200.0, window_bytes=MIB
)
ADDRESSES = {"memory": "memory://there", "tcp": "tcp://127.0.0.1:0"}


def real_links(scheme):
    """Return a pair maker of a real transport."""
    return lambda: link_pair(Transports(Limits()), ADDRESSES[scheme])


def sim_links(**options):
    """Return a pair maker over a new simulated network."""
    network = SimNetwork(LoopClock(), SeededRandom(1), **options)
    return lambda: link_pair(network, "sim://there")


def same(one, other):
    """Return whether two sets have the same names, types, shapes, ties and bytes."""
    return (one.model_digest(), dict(one.aliases)) == (other.model_digest(), dict(other.aliases))


def refused(world, ref, error):
    """Pull and return the sink's state; the pull must fail with ``error``."""

    async def main():
        sink = MemorySink()
        with pytest.raises(error):
            await world.fetch(ref, sink)
        await world.pair.round_trip()
        assert world.pulls() == []
        return sink._arrivals.state

    return main()


class World:
    """One owner (``there``) and one reader (``here``)."""

    def __init__(self, pair, tasks, limits):
        self.pair = pair
        self.shelf = Shelf("acceptor", tasks, LoopClock(), SeededRandom(3), limits)
        self.shelf.attach(pair.there)
        self.downloader = Downloader(limits, LayoutCache())

    async def fetch(self, ref, sink=None):
        """Pull a reference; return the tensors."""
        sink = MemorySink() if sink is None else sink
        await self.downloader.fetch(self.pair.here, ref, sink)
        return sink.tensors

    def pulls(self, topic=PULL_TOPIC):
        """Return the channels of pulls that are open at either end."""
        return [channel for channel in self.pair.left() if channel.topic == topic]


@asynccontextmanager
async def pulling(make, limits=None, acceptor=None):
    """Yield a world over a new connection; ends its tasks and sessions."""
    limits = limits or Limits()
    async with connected(make, limits, acceptor) as pair, anyio.create_task_group() as tasks:
        yield World(pair, tasks, limits)


def run(main):
    """Run on a real loop."""
    return asyncio.run(main())


class ChunkedSource:
    """Reads tensors in pieces, as a file would be; raises ``error`` after the first, if given."""

    def __init__(self, tensors, *, chunk=1000, error=None):
        self.specs, self.aliases = tensors.specs, tensors.aliases
        self.inner = MemorySource(tensors, chunk=chunk)
        self.error = error

    def chunks(self, name, start=0):
        """Yield pieces."""
        for chunk in self.inner.chunks(name, start):
            yield chunk
            if self.error is not None:
                raise self.error


class UnhashedSource(ChunkedSource):
    """Can be read to be sent, and not to be hashed."""

    def chunks(self, name, *start):
        """Yield pieces from a start; without one, fail."""
        if not start:
            raise TransferError("the disk is gone")
        return super().chunks(name, *start)


class CountingPool(ThreadPoolExecutor):
    """Counts in ``submitted`` what was handed to its threads."""

    submitted = 0

    def submit(self, *args, **options):
        """Count and submit."""
        self.submitted += 1
        return super().submit(*args, **options)


def every_dtype():
    """Return a tensor of each element type that can travel, with bytes that tell them apart."""
    specs = [TensorSpec(f"of {name}", name, (3, 8)) for name in DTYPES]
    dice = np.random.default_rng(5)
    views = {spec.name: memoryview(dice.bytes(spec.nbytes)) for spec in specs}
    return TensorSet.from_views(specs, views)


def many(count):
    """Return many small tensors, every tenth without elements."""
    arrays = {
        f"layer {number}": np.full(0 if number % 10 == 0 else number, number, np.int32)
        for number in range(count)
    }
    return TensorSet.from_params(arrays)


def tied():
    """Return two names of one array beside another one."""
    embedding = np.arange(600, dtype=np.float32)
    return TensorSet.from_params({"in": embedding, "out": embedding, "bias": np.ones(7)})


def big(mebibytes, name="big"):
    """Return one tensor of so many MiB, of bytes that tell offsets apart."""
    array = np.random.default_rng(9).integers(0, 255, mebibytes * 2**20, dtype=np.uint8)
    return TensorSet.from_params({name: array})
