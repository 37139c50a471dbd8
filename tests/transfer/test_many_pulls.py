"""Many pulls at once, and slow ones: what they share, what bounds them, when they are given up."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise

import anyio
import numpy as np
import pytest

from flare_async.errors import AckStalled, ChannelReset
from flare_async.limits import MIB, Limits
from flare_async.transfer.pull import PULL_SCHEMA, PULL_TOPIC, PullRequest
from flare_async.transfer.tensors import TensorSet
from flare_async.wire.session import OpenOptions
from tests.transfer.pulling import (
    PATIENCE,
    READER,
    STALLING,
    CountingPool,
    UnhashedSource,
    big,
    many,
    pulling,
    real_links,
    refused,
    run,
    same,
    sim_links,
)


@pytest.mark.parametrize("count", [1, 6])
def test_a_slow_link_that_moves_fails_no_pull(sim, count):
    """However long a turn of each tensor takes, and each is asked for once."""

    async def main():
        async with pulling(sim_links(bandwidth=8e3), Limits()) as world:
            arrays = {f"w{number}": np.full(MIB, number, np.uint8) for number in range(count)}
            offered = TensorSet.from_params(arrays)
            async with world.shelf.offer(offered) as offer:
                got = await world.fetch(offer.ref)
                opens = [frame.kind.__name__ for frame in world.pair.near.sent()].count("Open")
                return same(got, offered), opens, offer.served[READER] / MIB

    assert sim(main) == (True, 1 + count, count)


def test_two_windows_of_tensors_are_under_way_behind_the_first(sim):
    """Large tensors are pulled a few at a time, and small ones many at a time."""

    def under_way(count, nbytes):
        async def main():
            async with pulling(sim_links(), STALLING) as world:
                arrays = {f"w{n}": np.zeros(nbytes, np.uint8) for n in range(count)}
                offer = world.shelf.put(TensorSet.from_params(arrays))
                await world.downloader.layout(world.pair.here, offer.ref)
                world.pair.there.serve(PULL_TOPIC, asked.append)
                with anyio.move_on_after(1):
                    await world.fetch(offer.ref)
                return len(asked)

        asked = []
        return sim(main)

    assert [under_way(20, nbytes) for nbytes in (3 * MIB, MIB, 1000)] == [2, 3, 16]


def test_many_readers_of_a_large_tensor_have_it_hashed_once():
    """Whoever asks while its digest is computed joins; one that gives up harms nobody."""

    async def main():
        async with pulling(real_links("tcp")) as world, world.shelf.offer(offered) as offer:
            asyncio.get_running_loop().set_default_executor(pool := CountingPool(1))
            await world.downloader.layout(world.pair.here, offer.ref)
            got = []

            async def read():
                got.append(same(await world.fetch(offer.ref), offered))

            async with anyio.create_task_group() as group:
                header = PULL_SCHEMA.encode(PullRequest(offer.ref.key, "big", 0, 9))
                channel = world.pair.here.open(PULL_TOPIC, header, OpenOptions(end=True))
                for _ in range(5):
                    group.start_soon(read)
                await channel.receive()
                channel.reset()
            return got, pool.submitted, offer.hashing, len(offer.digests)

    offered = big(3)
    assert run(main) == ([True] * 5, 1, {}, 1)


def test_a_digest_that_cannot_be_computed_resets_its_readers(sim):
    """Of a part of a tensor the rest must be read; the owner goes on, the next reader asks anew."""

    async def main():
        async with pulling(sim_links(), STALLING) as world:
            offer = world.shelf.put(UnhashedSource(big(1)))
            header = PULL_SCHEMA.encode(PullRequest(offer.ref.key, "big", 0, 9))
            channel = world.pair.here.open(PULL_TOPIC, header, OpenOptions(end=True))
            channel.collect(9)
            with pytest.raises(ChannelReset):
                await channel.landed()
            return offer.hashing, len(offer.channels), world.pair.there.ended

    assert sim(main) == ({}, 0, False)


def test_an_offer_remembers_no_pull_that_is_over():
    """Its readers come and go; what ended is not looked at again."""

    async def main():
        async with pulling(real_links("tcp")) as world, world.shelf.offer(many(200)) as offer:
            await world.fetch(offer.ref)
            await world.pair.round_trip()
            return len(offer.channels)

    assert run(main) == 0


def test_a_long_manifest_is_parsed_beside_the_loop():
    """A short one is not, and both arrive in windows of 64 KiB."""

    async def main():
        async with pulling(real_links("tcp")) as world:
            asyncio.get_running_loop().set_default_executor(pool := CountingPool(1))
            counts = []
            for offered in (many(20), many(2000)):
                offer = world.shelf.put(offered)
                await world.downloader.layout(world.pair.here, offer.ref)
                counts.append((pool.submitted, len(offer.layout) > 64 * 1024))
            return counts

    assert run(main) == [(0, False), (1, True)]


def test_tries_without_progress_pause_for_longer_each_time(sim):
    """At most half a second, then one, then two, and never more than ``retry_cap``."""

    async def main(cap):
        limits = replace(STALLING, retry_cap=cap)
        async with pulling(sim_links(), limits) as world:
            offer = world.shelf.put(big(1))
            await world.downloader.layout(world.pair.here, offer.ref)
            times = []
            world.pair.there.serve(PULL_TOPIC, lambda _: times.append(world.pair.here.clock.now()))
            await refused(world, offer.ref, AckStalled)
            return [after - before - PATIENCE for before, after in pairwise(times)]

    pauses, capped = sim(lambda: main(60.0)), sim(lambda: main(0.001))
    assert all(
        -0.01 <= pause <= most + 0.1 for pause, most in zip(pauses, (0.5, 1, 2), strict=True)
    )
    assert max(pauses) > 0.1 >= max(capped)
