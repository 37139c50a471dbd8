"""A caching relay: the parent gives each chunk once, and nothing that it would not give."""

from __future__ import annotations

from contextlib import asynccontextmanager

import anyio
import numpy as np
import pytest

from flare_async.errors import ChannelReset, FlareError, LinkError, OfferGone
from flare_async.limits import MIB, Limits
from flare_async.roles.relay import PROCESS_BYTES
from flare_async.transfer.digest import chunk_digests
from flare_async.transfer.sink import MemorySink
from flare_async.transfer.tensors import TensorSet
from flare_async.wire.frames import ResetCode
from tests.faults.world import now
from tests.roles.federation import Trains, expected, settle, values
from tests.roles.tree import ONE, joined, tree

BIG = TensorSet.from_params(
    {
        "a": np.random.default_rng(1).integers(0, 255, 5 * MIB + 77, np.uint8),
        "b": np.arange(3000, dtype=np.float32),
        "none": np.zeros((0, 3), np.float32),
    }
)


async def pulled(made, session, ref):
    """Pull everything; return its digest."""
    sink = MemorySink()
    await made.context.downloader.fetch(session, ref, sink)
    return sink.tensors.model_digest()


@asynccontextmanager
async def offered(relays, **options):
    """Yield a tree of caching relays and an offer of its server."""
    async with (
        tree(relays, {}, mode="cache", **options) as made,
        made.server.shelf.offer(BIG) as offer,
    ):
        yield made, offer


async def crowd(made, offer, count, prefix="c"):
    """Let so many clients pull at once; return their digests."""
    found = []

    async def one(name):
        async with joined(made, name, made.at("r1")) as session:
            found.append(await pulled(made, session, offer.ref))

    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(one, f"{prefix}{number}")
    return found


@pytest.mark.parametrize("relays", [ONE, {"r2": "server", "r1": "r2"}], ids=["one", "two"])
def test_24_clients_that_ask_for_the_same_cold_chunks_cost_the_parent_one_model(sim, relays):
    """Single-flight, at every level: the server counts the bytes that it was asked for."""

    async def main():
        async with offered(relays) as (made, offer):
            found = await crowd(made, offer, 24)
            await settle()
            top = next(name for name, parent in relays.items() if parent == "server")
            return found, dict(offer.served), made.relays[top].cache.fetched

    found, served, fetched = sim(main)
    assert found == [BIG.model_digest()] * 24
    assert served == {next(n for n, p in relays.items() if p == "server"): BIG.nbytes}
    assert fetched == BIG.nbytes


def test_a_cache_of_four_chunks_serves_a_larger_model(sim):
    """The budget is kept, whoever asks for what; the parent is asked again for what was dropped."""

    async def main():
        async with (
            tree(ONE, {}, mode="cache", cache_bytes=4 * MIB) as made,
            made.server.shelf.offer(BIG) as offer,
        ):
            found = await crowd(made, offer, 9)
            await settle()
            cache = made.relays["r1"].cache
            pins = sum(chunk.pins for chunk in cache._chunks.values())
            return found, cache.peak, cache.nbytes, pins

    found, peak, kept, pins = sim(main)
    assert found == [BIG.model_digest()] * 9
    assert (kept <= peak <= 4 * MIB, pins) == (True, 0)


def test_what_the_parent_has_withdrawn_is_gone_although_it_is_cached(sim):
    """The parent confirms every pull, so its tombstone is the relay's."""

    async def main():
        async with tree(ONE, {}, mode="cache") as made:
            async with made.server.shelf.offer(BIG) as offer:
                await crowd(made, offer, 1)
            async with joined(made, "late", made.at("r1")) as session:
                with pytest.raises(OfferGone):
                    await pulled(made, session, offer.ref)
            return made.relays["r1"].cache.fetched

    assert sim(main) == BIG.nbytes


def test_f18_a_chunk_that_changed_in_the_relays_memory_is_pulled_again(sim):
    """It is noticed before it is given, counted, and costs the parent one more chunk."""

    async def main():
        async with offered(ONE) as (made, offer):
            await crowd(made, offer, 1)
            cache = made.relays["r1"].cache
            chunk = next(one for one in cache._chunks.values() if one.id.start == MIB)
            chunk.data[99] ^= 4
            found = await crowd(made, offer, 2, "later")
            await settle()
            return found, cache.damaged, offer.served["r1"]

    assert sim(main) == ([BIG.model_digest()] * 2, 1, BIG.nbytes + MIB)


def test_f18_a_site_that_does_not_believe_the_relay_gets_the_parents_bytes(sim):
    """A chunk that came damaged, with the right sum for what it is, is replaced for everybody."""

    async def main():
        async with offered(ONE) as (made, offer):
            await crowd(made, offer, 1)
            cache = made.relays["r1"].cache
            chunk = next(one for one in cache._chunks.values() if one.id.start == MIB)
            chunk.data[99] ^= 4
            chunk.sum = chunk_digests(chunk.data)
            found = await crowd(made, offer, 1, "doubts")
            again = await crowd(made, offer, 3, "later")
            await settle()
            return found + again, offer.served["r1"] - BIG.nbytes

    found, more = sim(main)
    assert found == [BIG.model_digest()] * 4
    assert MIB <= more <= 2 * BIG.nbytes


@pytest.mark.parametrize("mode", ["splice", "cache"])
def test_sites_are_told_when_the_parent_goes_in_the_middle_of_their_pulls(sim, mode):
    """At once, with the reason; nothing is pinned, under way or expected any more."""

    async def main():
        slow = {"bandwidth": 1e6}
        async with tree(ONE, {}, mode=mode, network=slow) as made:
            relay, ends = made.relays["r1"], []

            async def one(name, ref):
                async with joined(made, name, made.at("r1")) as session:
                    with pytest.raises(FlareError) as caught:
                        await pulled(made, session, ref)
                    ends.append((type(caught.value), now()))
                    await anyio.sleep(1)

            async with made.server.shelf.offer(BIG) as offer, anyio.create_task_group() as tasks:
                for name in "abc":
                    tasks.start_soon(one, name, offer.ref)
                await anyio.sleep(2)
                began = now()
                made.server.end_sessions(int(ResetCode.GONE), "gone")
            await settle()
            pins = sum(chunk.pins for chunk in relay.cache._chunks.values())
            loading = [chunk for chunk in relay.cache._chunks.values() if chunk.data is None]
            return ends, began, pins, loading, relay.context.budget.available

    ends, began, *left, available = sim(main)
    assert all(issubclass(kind, ChannelReset | LinkError) for kind, _ in ends)
    assert len(ends) == 3
    assert all(at <= began + 1 for _, at in ends)
    assert (left, available) == ([0, []], PROCESS_BYTES)


def test_a_site_that_starts_again_is_served_from_the_cache(sim):
    """Asking again in another session is no doubt: the parent is not asked for more bytes."""

    async def main():
        async with offered(ONE) as (made, offer):
            for _ in range(3):
                await crowd(made, offer, 1, "again")
            await settle()
            return offer.served["r1"], made.relays["r1"]._pull.__self__._pinned

    assert sim(main) == (BIG.nbytes, {})


def test_a_round_through_a_caching_relay_gives_the_flat_bits(sim):
    """What is cached is what the server offers."""
    workers = {("r1", name): Trains(step) for name, step in (("a", 1), ("b", 3))}

    async def main():
        async with tree(ONE, workers, mode="cache") as made:
            return values((await made.play())[1])

    assert sim(main) == expected((1, 1), (3, 1))


def test_eight_pulls_of_many_chunks_finish_with_a_window_of_one_frame(sim):
    """Nothing waits for anything that waits for it."""
    limits = Limits(window_bytes=MIB, link_bytes=MIB, process_bytes=4 * MIB)

    async def main():
        async with (
            tree(ONE, {}, mode="cache", limits=limits, cache_bytes=4 * MIB) as made,
            made.server.shelf.offer(BIG) as offer,
        ):
            return await crowd(made, offer, 8)

    assert sim(main) == [BIG.model_digest()] * 8
