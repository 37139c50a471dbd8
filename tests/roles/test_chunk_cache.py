"""The cache of a relay by itself: one fetch for all, whoever gives up, and every byte counted."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from flare_async.errors import AckStalled, LinkLost
from flare_async.limits import Limits
from flare_async.net.rng import SeededRandom
from flare_async.roles.chunk_cache import A_CHUNK, ChunkCache, ChunkId
from flare_async.roles.parent_pulls import ParentPulls
from flare_async.roles.single_flight import SingleFlight
from flare_async.testing.loop import run_sim
from tests.faults.world import now

SIZE = 100
COST = SIZE + A_CHUNK


def chunk(number):
    """Return the id of a chunk."""
    return ChunkId("key", "w", number * SIZE, (number + 1) * SIZE)


class Parent:
    """Gives chunks after a second, and counts them; the first ``failing`` fail."""

    def __init__(self, failing=0):
        self.asked, self.failing = [], failing

    async def fetch(self, chunk_id):
        """Give one."""
        self.asked.append(chunk_id)
        await anyio.sleep(1)
        if len(self.asked) <= self.failing:
            raise LinkLost("parent", "gone")
        return memoryview(bytearray(chunk_id.nbytes))


def test_a_leader_that_is_cancelled_takes_nothing_from_those_who_follow(sim):
    """The first of three who ask gives up; one fetch is for the others."""

    async def main():
        parent = Parent()
        async with anyio.create_task_group() as tasks:
            cache, got = ChunkCache(COST, parent.fetch, tasks), []

            async def ask(scope):
                with scope:
                    got.append(await cache.pin(chunk(0)))

            leader, *others = [anyio.CancelScope() for _ in range(3)]
            for scope in (leader, *others):
                tasks.start_soon(ask, scope)
                await anyio.sleep(0.1)
            leader.cancel()
            await anyio.sleep(2)
            return len(got), len(parent.asked), {one.pins for one in got}

    assert sim(main) == (2, 1, {2})


def test_a_fetch_that_fails_is_told_to_all_and_not_kept(sim):
    """The next one who asks has it fetched again; the failure holds no memory."""

    async def main():
        parent = Parent(failing=1)
        async with anyio.create_task_group() as tasks:
            cache = ChunkCache(COST, parent.fetch, tasks)
            asked = [cache.pin(chunk(0)) for _ in range(3)]
            failed = await asyncio.gather(*asked, return_exceptions=True)
            after = cache.nbytes
            pinned = await cache.pin(chunk(0))
            return {type(one) for one in failed}, after, len(parent.asked), pinned.pins

    assert sim(main) == ({LinkLost}, 0, 2, 1)


def test_what_was_dropped_counts_until_nobody_has_it(sim):
    """Doubts do not let the cache hold more than its budget."""

    async def main():
        parent = Parent()
        async with anyio.create_task_group() as tasks:
            cache, sizes = ChunkCache(2 * COST, parent.fetch, tasks), []
            held = [await cache.pin(chunk(number)) for number in range(2)]
            cache.forget(lambda _: True)
            sizes.append(cache.nbytes)
            tasks.start_soon(cache.pin, chunk(2))
            await anyio.sleep(3)
            sizes.append(len(parent.asked))
            cache.unpin(held[0])
            await anyio.sleep(3)
            cache.unpin(held[1])
            return sizes, len(parent.asked), cache.nbytes, cache.peak

    assert sim(main) == ([2 * COST, 2], 3, COST, 2 * COST)


def test_chunks_without_bytes_do_not_pile_up(sim):
    """A model of scalars costs what its objects cost: the cache holds as many as it may."""

    async def main():
        parent = Parent()
        async with anyio.create_task_group() as tasks:
            cache = ChunkCache(10 * A_CHUNK, parent.fetch, tasks)
            for number in range(100):
                cache.unpin(await cache.pin(ChunkId("key", f"w{number}", 0, 0)))
            return len(cache._chunks), cache.nbytes

    assert sim(main) == (10, 10 * A_CHUNK)


def test_a_single_flight_outlives_who_began_it(sim):
    """Three ask, the first gives up; the work is done once, and again for who asks later."""

    async def main():
        done = []

        async def work(key):
            await anyio.sleep(1)
            done.append(key)
            return b""

        async with anyio.create_task_group() as tasks:
            flights = SingleFlight[str, bytes](work, tasks)
            with anyio.move_on_after(0.5):
                tasks.start_soon(flights.get, "k")
                await flights.get("k")
            await flights.get("k")
            first = len(done)
            await flights.get("k")
            return first, len(done), flights._flights

    assert sim(main) == (1, 2, {})


class Stalls:
    """A parent's session on which nothing ever moves."""

    def __init__(self):
        self.opened = 0

    def open(self, *_):
        """Fail as a stalled pull does."""
        self.opened += 1
        raise AckStalled("parent", "pull", 0, 0, 60.0)


def stalled(seed):
    """Return how long a relay tries at a parent that stalls, and how often."""

    async def main():
        parent = Stalls()
        pulls = ParentPulls(lambda: parent, SeededRandom(seed), Limits(max_resends=3))
        with pytest.raises(AckStalled):
            await pulls.digest("key", "w")
        return now(), parent.opened

    return run_sim(main)


def test_tries_at_a_parent_that_stalls_are_spread():
    """Full jitter: relays that failed together do not come back together."""
    found = [stalled(seed) for seed in range(5)]
    assert [tries for _, tries in found] == [4] * 5
    assert len({at for at, _ in found}) == 5
    assert max(at for at, _ in found) <= 0.5 + 1 + 2
