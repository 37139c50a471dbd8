"""What readers can make an owner hold and do: memory, threads, frames, absurd offers."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from flare_async.errors import TensorFormatError, TransferError
from flare_async.limits import KIB, MIB, Limits
from flare_async.transfer import offer as offer_module
from flare_async.transfer.digest import TENSOR_DIGEST, tensor_digest
from flare_async.transfer.exchange import TensorReader
from flare_async.transfer.file_source import FileSource
from flare_async.transfer.pull import (
    PULL_SCHEMA,
    PULL_TOPIC,
    DigestRequest,
    LayoutCache,
    Printed,
    PullRequest,
)
from flare_async.transfer.spec import TensorSpec
from flare_async.transfer.tensors import TensorSet
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import OpenOptions
from tests.transfer.pulling import (
    CountingPool,
    big,
    many,
    pulling,
    real_links,
    run,
    same,
    sim_links,
)

ZEROS = memoryview(bytes(MIB))


class Endless:
    """Tensors of zeros of any length, of which no more than a MiB is ever in memory."""

    def __init__(self, nbytes, count=1):
        self.aliases = {}
        self.specs = tuple(TensorSpec(f"w{n}", "U8", (nbytes,)) for n in range(count))
        self.read, self.active, self.most = 0, 0, 0
        self.on_read = lambda: None

    def chunks(self, name, start=0):
        """Yield zeros, and count."""
        self.active += 1
        self.most = max(self.most, self.active)
        try:
            for at in range(start, self.specs[0].nbytes, MIB):
                self.read += MIB
                self.on_read()
                yield ZEROS[: self.specs[0].nbytes - at]
        finally:
            self.active -= 1


def asked(world, request, window=None):
    """Ask by hand; return the channel."""
    options = OpenOptions(end=True, window=window)
    return world.pair.here.open(PULL_TOPIC, PULL_SCHEMA.encode(request), options)


@pytest.mark.parametrize("window", [0, 8 * KIB, 4 * MIB])
def test_pulls_of_a_file_that_nobody_takes_hold_the_links_bytes(sim, tmp_path, window):
    """A thousand of them would hold a GiB, at a MiB each."""
    read, place, count = [], tmp_path / "place", 300
    place.write_bytes(bytes(2 * MIB))

    class Counted(FileSource):
        def piece(self, name, start, nbytes):
            read.append(nbytes)
            return super().piece(name, start, nbytes)

    async def main():
        async with pulling(sim_links()) as world:
            with Counted(place, plain_as="x") as source:
                ref = world.shelf.put(source).ref
                request = PullRequest(ref.key, "x", 0, 2 * MIB)
                channels = [asked(world, request, window) for _ in range(count)]
                await asyncio.sleep(5)
                for channel in channels:
                    channel.reset()
                await world.pair.round_trip()
                return world.shelf._feeds

    assert sim(main) == {}
    assert count <= len(read)
    assert sum(read) <= Limits().link_bytes + 2 * count * 64 * KIB


def test_a_few_pulls_of_a_file_read_a_mebibyte_at_a_time(sim, tmp_path):
    """Sharing costs them nothing."""
    read, place = [], tmp_path / "place"
    place.write_bytes(bytes(3 * MIB + 5))

    class Counted(FileSource):
        def piece(self, name, start, nbytes):
            read.append(nbytes)
            return super().piece(name, start, nbytes)

    async def main():
        async with pulling(sim_links()) as world:
            with Counted(place, plain_as="x") as source:
                return (await world.fetch(world.shelf.put(source).ref)).nbytes

    assert sim(main) == 3 * MIB + 5
    assert read == [MIB, MIB, MIB, 5]


def test_a_long_tensor_is_hashed_in_turns():
    """A thread is not kept for all of it: others wait for the same few threads."""

    async def main():
        async with pulling(real_links("tcp")) as world:
            asyncio.get_running_loop().set_default_executor(pool := CountingPool(1))
            offer = world.shelf.put(Endless(65 * MIB))
            channel = asked(world, DigestRequest(offer.ref.key, ""))
            data = b"".join([bytes(chunk) async for chunk in channel])
            return data, pool.submitted

    assert run(main) == (tensor_digest(bytes(65 * MIB)), 3)


def test_few_tensors_are_hashed_at_a_time_and_none_of_a_closed_offer(sim, monkeypatch):
    """Whatever readers ask for: two of ten, and what is withdrawn is read no further."""
    monkeypatch.setattr(offer_module, "HASH_STEP", MIB)
    source = Endless(50 * MIB, count=10)

    async def main():
        async with pulling(sim_links()) as world:
            offer = world.shelf.put(source)
            source.on_read = lambda: source.read < 10 * MIB or world.shelf.withdraw(offer)
            for spec in source.specs:
                asked(world, DigestRequest(offer.ref.key, spec.name))
            await asyncio.sleep(1)
            return offer.hashing, world.pulls()

    assert sim(main) == ({}, [])
    assert source.most == 2
    assert source.read <= 12 * MIB


@pytest.mark.parametrize("count", [0, 1, 3000])
def test_the_digests_of_many_short_tensors_come_together(count):
    """Not in a frame and by a thread for each."""
    offered = TensorSet.from_params({f"w{n}": np.full(3, n) for n in range(count)})

    async def main():
        async with pulling(real_links("tcp")) as world:
            asyncio.get_running_loop().set_default_executor(pool := CountingPool(1))
            channel = asked(world, DigestRequest(world.shelf.put(offered).ref.key, ""))
            return [bytes(chunk) async for chunk in channel], pool.submitted

    chunks, submitted = run(main)
    order = Printed.of(offered.specs, {}).sizes  # the manifest's, in which its reader has them
    assert b"".join(chunks) == b"".join(tensor_digest(offered[name]) for name in order)
    assert (len(chunks) <= 1 + count * TENSOR_DIGEST // (16 * KIB), submitted) == (True, 0)


def test_a_model_whose_manifest_nobody_would_accept_is_refused_at_its_owner():
    """The message says how long it is; before, each of its readers failed."""

    async def main():
        async with pulling(real_links("tcp")) as world:
            arrays = {f"{'block.' * 20}{n}": np.zeros(1, np.int8) for n in range(7000)}
            with pytest.raises(TensorFormatError, match=r"7000 tensors .* 1048576 can be pulled"):
                world.shelf.put(TensorSet.from_params(arrays))
            return same(await world.fetch(world.shelf.put(many(3)).ref), many(3))

    assert run(main)


@pytest.mark.parametrize("scheme", ["memory", "tcp"])
def test_a_tensor_for_which_there_is_no_memory_fails_its_pull_alone(scheme):
    """A peer says how large its tensors are; the session goes on."""

    async def main():
        async with pulling(real_links(scheme)) as world:
            offer = world.shelf.put(Endless(2**53))
            with pytest.raises(TransferError, match="no memory for 9007199254740992 bytes"):
                await world.fetch(offer.ref)
            return same(await world.fetch(world.shelf.put(many(3)).ref), many(3))

    assert run(main)


def test_tries_are_counted_since_something_came(sim):
    """A pull that moves between two failures goes on, however often; its owner is alive."""

    async def main():
        async with pulling(sim_links(), Limits(max_resends=1)) as world:
            offered, requests = big(1), []
            offer = world.shelf.put(offered)

            def answer(channel):
                request = PULL_SCHEMA.decode(channel.header, Limits())
                requests.append(request)
                if request.tensor and len(requests) % 2:
                    channel.send_soon(offered["big"][request.start :][: 200 * KIB])
                    asyncio.get_running_loop().call_later(5, channel.reset, ResetCode.STALLED)
                elif request.tensor and request.start < 800 * KIB:
                    channel.reset(ResetCode.STALLED)
                else:
                    world.shelf.answer(channel)

            world.pair.there.serve(PULL_TOPIC, answer)
            return same(await world.fetch(offer.ref), offered), len(requests)

    intact, count = sim(main)
    assert intact
    assert count >= 1 + 2 * 4


def test_more_downloads_than_the_session_has_channels_wait_for_each_other():
    """Nobody who begins too many is refused for it."""

    async def main():
        async with pulling(real_links("tcp"), Limits(channels=64)) as world:
            reader, ref = (
                TensorReader(world.pair.here, world.downloader),
                world.shelf.put(many(40)).ref,
            )
            got = await asyncio.gather(*[reader.download_tensors(ref) for _ in range(30)])
            return [same(tensors, many(40)) for tensors in got]

    assert run(main) == [True] * 30


def test_peers_cannot_fill_the_cache_of_layouts():
    """What was used last stays; the others are pulled again when they are needed."""
    printed = [Printed.of(many(count).specs, {}) for count in range(200, 220)]
    most = sum(len(one.data) for one in printed[-3:])

    async def main():
        cache = LayoutCache(most)
        for one in printed[:-1]:
            await cache.add(one.digest, one.data)
            cache.find(printed[0].digest)
        await cache.add(printed[-1].digest, printed[-1].data)
        return [number for number, one in enumerate(printed) if cache.find(one.digest) is not None]

    assert run(main) == [0, 18, 19]
