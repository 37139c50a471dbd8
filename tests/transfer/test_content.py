"""What a job has already is not sent again, and what a sink is short of is asked for in parts."""

from __future__ import annotations

import anyio
import numpy as np
import pytest

from flare_async.errors import LinkLost, OfferGone, TransferError
from flare_async.limits import MIB, Limits
from flare_async.transfer.content import ContentCache
from flare_async.transfer.digest import tensor_digest
from flare_async.transfer.mean import MeanOptions, WeightedMean
from flare_async.transfer.pull import PULL_TOPIC
from flare_async.transfer.sink import MemorySink
from flare_async.transfer.staging import StagedUpdate, StagingArea
from flare_async.transfer.tensors import TensorSet
from tests.transfer.helpers import fill, numbers
from tests.transfer.pulling import (
    READER,
    STALLING,
    ChunkedSource,
    big,
    pulling,
    real_links,
    run,
    same,
    sim_links,
    tied,
)

FROZEN = np.arange(5000, dtype=np.float32)


def model(version):
    """Return a frozen layer, its tie, and one that training changes."""
    head = np.full(300, version, np.float32)
    return TensorSet.from_params({"frozen": FROZEN, "tied": FROZEN, "head": head})


def rounds(scheme, models, known):
    """Offer and fetch one model after the other; return what came, reports and bytes served."""

    async def main():
        found = []
        async with pulling(real_links(scheme)) as world:
            for offered in models:
                async with world.shelf.offer(offered) as offer:
                    sink = MemorySink()
                    report = await world.downloader.fetch(
                        world.pair.here, offer.ref, sink, known=known
                    )
                    found.append((same(sink.tensors, offered), report, offer.served[READER]))
        return found

    return run(main)


def test_a_tensor_that_did_not_change_is_not_sent_again():
    """The first round brings everything, the next ones what training changed."""
    known = ContentCache()
    found = rounds("tcp", [model(1), model(2), model(2)], known)
    assert [intact for intact, _, _ in found] == [True] * 3
    assert [served for _, _, served in found] == [21_200, 1_200, 0]
    assert [report.adopted_bytes for _, report, _ in found] == [0, 20_000, 21_200]
    assert (len(known), known.nbytes) == (2, 21_200)


def test_tensors_that_stand_in_another_order_than_the_manifest_keep_their_own_bytes():
    """Digests are told in the order in which the reader has the tensors."""
    layers = {name: np.full(500, at, np.float32) for at, name in enumerate(("z", "b", "a"))}
    offered = TensorSet.from_params(layers)
    found = rounds("tcp", [offered, offered], ContentCache())
    assert [intact for intact, _, _ in found] == [True, True]
    assert found[1][1].adopted_bytes == 6_000


def test_what_is_adopted_is_the_same_memory():
    """It is a reference and no copy."""

    async def main():
        async with pulling(real_links("tcp")) as world:
            known, views = ContentCache(), []
            for version in (1, 2):
                sink = MemorySink()
                ref = world.shelf.put(model(version)).ref
                await world.downloader.fetch(world.pair.here, ref, sink, known=known)
                views.append(sink.tensors.numpy()["frozen"])
            return np.shares_memory(*views)

    assert run(main)


def test_over_memory_nothing_is_hashed():
    """Everything comes by reference anyway."""
    known = ContentCache()
    found = rounds("memory", [model(1), model(1)], known)
    assert [report.adopted_bytes for _, report, _ in found] == [21_200] * 2
    assert len(known) == 0


def test_who_does_not_ask_pays_nothing():
    """Without a cache, and at the first fetch with one, no digest is asked for."""

    async def main(known):
        async with pulling(real_links("tcp")) as world:
            offer = world.shelf.put(model(1))
            await world.downloader.layout(world.pair.here, offer.ref)
            before = len(world.pair.near.sent())
            await world.downloader.fetch(world.pair.here, offer.ref, MemorySink(), known=known)
            return sum(f.kind.__name__ == "Open" for f in world.pair.near.sent()[before:])

    assert run(lambda: main(None)) == run(lambda: main(ContentCache())) == 2


def test_a_cache_lets_go_before_the_next_model_comes():
    """What the new model does not have is not held beside it."""
    known = ContentCache()
    old, new = tensor_digest(b"old"), tensor_digest(b"new")
    tensors = TensorSet.from_params({"a": np.zeros(1), "b": np.ones(1)})
    known.keep(tensors, {"a": old, "b": new})
    known.retain([new])
    assert (known.find(old, 8), bytes(known.find(new, 8) or b"")) == (None, bytes(tensors["b"]))
    assert known.find(new, 9) is None
    known.clear()
    assert known.sizes() == frozenset()


def test_a_part_of_an_offer_can_be_fetched():
    """Tied tensors come with the first of their names; others are an error."""

    async def main():
        async with pulling(real_links("tcp")) as world:
            offer, sink = world.shelf.put(tied()), MemorySink()
            await world.downloader.fetch(world.pair.here, offer.ref, sink, only=["out"])
            assert (list(sink.tensors), sink.tensors.aliases) == (["in", "out"], {"out": "in"})
            with pytest.raises(TransferError, match="'x': not among the 2 on offer"):
                await world.downloader.fetch(world.pair.here, offer.ref, MemorySink(), only=["x"])
            return offer.served[READER]

    assert run(main) == 2400


def test_a_spooled_tensor_takes_a_piece_of_memory_at_a_time(sim):
    """Thirty tensors of 3 MiB beyond the budget: a few buffers of a MiB, and no tensor whole."""

    async def main():
        async with pulling(sim_links()) as world:
            arrays = {f"w{n}": np.full(3 * MIB, n, np.uint8) for n in range(30)}
            offered, area = TensorSet.from_params(arrays), StagingArea(MIB)
            sink = StagedUpdate(area)
            await world.downloader.fetch(world.pair.here, world.shelf.put(offered).ref, sink)
            intact = all(
                b"".join(map(bytes, sink.chunks(name))) == offered[name] for name in offered
            )
            most = area.spool().buffers.most_leased
            sink.discard()
            area.close()
            return intact, area.peak_bytes, most

    intact, peak, most = sim(main)
    assert (intact, peak) == (True, 0)
    assert most <= 2


def test_without_a_free_buffer_bytes_are_written_from_their_own_memory():
    """Sixteen pulls that stand still in the middle of a frame do not hold up the seventeenth."""
    area = StagingArea(0)
    stuck = StagedUpdate(area)
    stuck.begin(TensorSet.from_params({f"w{n}": np.ones(9) for n in range(15)}).specs)
    held = [stuck.destination(f"w{n}", 0, 72) for n in range(15)]

    async def main():
        async with pulling(real_links("tcp")) as world:
            sink = StagedUpdate(area)
            report = await world.downloader.fetch(
                world.pair.here, world.shelf.put(big(3)).ref, sink
            )
            return b"".join(map(bytes, sink.chunks("big"))) == big(3)["big"], report.repulled_bytes

    assert run(main) == (True, 0)
    assert (len(held), area.spool().buffers.most_leased) == (15, 15)
    stuck.discard()
    assert area.spool().buffers.leased == 0
    area.close()


def asked_windows(sim, sink, count):
    """Return the credit of each pull that a fetch has asked for before any byte came."""

    async def main():
        async with pulling(sim_links(), STALLING) as world:
            arrays = {f"w{n}": np.zeros(200_000, np.uint8) for n in range(count)}
            offer = world.shelf.put(TensorSet.from_params(arrays))
            await world.downloader.layout(world.pair.here, offer.ref)
            asked = []
            world.pair.there.serve(PULL_TOPIC, asked.append)
            with anyio.move_on_after(1):
                await world.downloader.fetch(world.pair.here, offer.ref, sink)
            return [channel.statistics().limit for channel in asked]

    return sim(main)


def test_grants_shrink_when_staging_is_nearly_full(sim):
    """F37: at 80 % of the budget less is asked for at a time; beyond it, the disk takes over."""
    area = StagingArea(10_000_000)
    calm = asked_windows(sim, StagedUpdate(area), 20)
    assert area.reserve(8_000_001)
    pressed = asked_windows(sim, StagedUpdate(area), 20)
    assert (len(calm), len(pressed)) == (12, 4)
    area.close()


def test_an_aggregator_under_pressure_spills_and_keeps_its_bits(sim):
    """F37: eight updates of five times the budget: the memory bound holds, the sum is the same."""
    order = [f"site-{n}" for n in range(8)]
    updates = {site: TensorSet.from_params({"w": numbers(n)}) for n, site in enumerate(order)}
    start = TensorSet.from_params({"w": np.zeros((37, 5), np.float32)})

    async def main(budget):
        limits = Limits(staging_bytes=budget)
        async with pulling(sim_links(), limits) as world:
            with WeightedMean(start, order=order, limits=limits) as mean:
                for site in reversed(order):
                    ref = world.shelf.put(updates[site]).ref
                    await world.downloader.fetch(world.pair.here, ref, mean.stage(site, 2.0))
                    mean.commit(site)
                statistics = mean.statistics
                return mean.finish().model_digest(), statistics

    roomy, _ = sim(lambda: main(MIB))
    tight, statistics = sim(lambda: main(1000))
    assert tight == roomy
    assert (statistics.staged_bytes, statistics.spilled_bytes) == (740, 7 * 740)


@pytest.mark.parametrize("budget", [0, 100 * MIB])
@pytest.mark.parametrize("landed", [0, 300_000, 1_500_000, 2_900_000])
def test_a_site_that_dies_in_its_upload_never_changes_the_sum(sim, budget, landed):
    """F28: wherever it dies, the others' mean has the bits of a round without it."""
    start = TensorSet.from_params({"big": np.zeros(3 * MIB, np.uint8)})
    order = ["dying", "living"]

    def mean_of(sites):
        limits = Limits(staging_bytes=budget)

        async def main():
            living = ChunkedSource(big(3), chunk=MIB)
            with WeightedMean(start, order=order, limits=limits) as mean:
                if "dying" in sites:
                    async with pulling(sim_links(bandwidth=1e6)) as world:
                        ref = world.shelf.put(big(3)).ref
                        world.downloader._layouts._layouts.clear()
                        loop = world.pair.near.link
                        scope = anyio.move_on_after(landed / 1e6)
                        with scope:
                            await world.downloader.fetch(
                                world.pair.here, ref, mean.stage("dying", 5)
                            )
                        assert scope.cancelled_caught, "it was whole before it died"
                        loop.cut()
                    mean.discard("dying")
                async with pulling(sim_links()) as world:
                    ref = world.shelf.put(living).ref
                    await world.downloader.fetch(world.pair.here, ref, mean.stage("living", 3))
                mean.commit("living")
                return mean.finish().model_digest()

        return sim(main)

    assert mean_of(["dying", "living"]) == mean_of(["living"])


@pytest.mark.parametrize(("ending", "error"), [("cut", LinkLost), ("withdrawn", OfferGone)])
def test_a_source_that_is_lost_after_it_was_accepted_is_a_typed_error(sim, ending, error):
    """F28: and the update is discarded, so that nothing can commit a truncated one."""

    async def main():
        start = TensorSet.from_params({"big": np.zeros(3 * MIB, np.uint8)})
        async with pulling(sim_links(bandwidth=1e6)) as world:
            offer = world.shelf.put(big(3))
            with WeightedMean(start, order=["site"], options=MeanOptions()) as mean:
                update = mean.stage("site", 1.0)
                async with anyio.create_task_group() as group:

                    async def lose():
                        await anyio.sleep(1)
                        if ending == "cut":
                            world.pair.near.link.cut()
                        else:
                            world.shelf.withdraw(offer)

                    group.start_soon(lose)
                    with pytest.raises(error):
                        await world.downloader.fetch(world.pair.here, offer.ref, update)
                with pytest.raises(TransferError, match="not whole"):
                    mean.commit("site")
                return update.whole

    assert not sim(main)


def test_pieces_have_the_bits_of_a_whole():
    """Spooled, staged and in memory: the same tensors, however they came."""
    area = StagingArea(0)
    spooled, staged, memory = StagedUpdate(area), StagedUpdate(StagingArea(MIB)), MemorySink()
    for sink, piece in ((spooled, 7), (staged, 100), (memory, 64)):
        fill(sink, tied(), piece=piece)
    found = [b"".join(map(bytes, sink.chunks("in"))) for sink in (spooled, staged)]
    assert found == [bytes(memory.tensors["in"])] * 2
    area.close()
