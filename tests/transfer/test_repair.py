"""Damaged on the way or at the source: what differs is pulled again, by the chunk, and counted."""

from __future__ import annotations

import numpy as np
import pytest

from flare_async.errors import DigestMismatch, RemoteProtocolError, TransferError
from flare_async.limits import KIB, MIB, Limits
from flare_async.testing import BitFlip
from flare_async.transfer.arrivals import SinkState
from flare_async.transfer.digest import chunk_digests, tensor_digest
from flare_async.transfer.pull import PULL_SCHEMA, PULL_TOPIC, DigestRequest, PullRequest
from flare_async.transfer.sink import MemorySink
from flare_async.transfer.staging import StagedUpdate, StagingArea
from flare_async.transfer.tensors import TensorSet
from flare_async.wire.session import OpenOptions
from tests.transfer.pulling import READER, ChunkedSource, big, pulling, same, sim_links


def flipped(*places):
    """Return a pair maker whose link flips a bit of these bytes of payload on their way here."""
    return sim_links(faults=[BitFlip(at, payload=True, direction="down") for at in places])


def content(update):
    """Return the bytes of a staged tensor."""
    return b"".join(map(bytes, update.chunks("big")))


class Damaged(ChunkedSource):
    """Has a bit flipped at ``byte`` whenever it is read there, for the first ``times``."""

    def __init__(self, tensors, byte, times=1):
        super().__init__(tensors, chunk=256 * KIB)
        self.byte, self.times = byte, times

    def chunks(self, name, start=0):
        """Yield pieces, one of them damaged."""
        at = start
        for chunk in self.inner.chunks(name, start):
            bad = bytearray(chunk)
            if at <= self.byte < at + len(chunk) and self.times:
                self.times -= 1
                bad[self.byte - at] ^= 1
            at += len(chunk)
            yield memoryview(bad)


def test_one_flipped_bit_costs_one_chunk(sim):
    """Nine MiB and a bit: the chunk with the bit is asked for again, and nothing else."""

    async def main():
        async with pulling(flipped(5 * MIB)) as world:
            offered = big(9)
            async with world.shelf.offer(offered) as offer:
                sink = MemorySink()
                report = await world.downloader.fetch(world.pair.here, offer.ref, sink)
                return same(sink.tensors, offered), report, offer.served[READER]

    intact, report, served = sim(main)
    assert intact
    assert (report.repulled_chunks, report.repulled_bytes) == (1, MIB)
    assert (report.nbytes, report.pulled_bytes, served) == (9 * MIB, 9 * MIB, 10 * MIB)


def test_damage_is_found_and_mended_in_the_spool(sim):
    """What was spilled is read back, chunk by chunk; two bits in two chunks cost two chunks."""

    async def main():
        async with pulling(flipped(MIB, int(3.5 * MIB))) as world:
            area = StagingArea(0)
            sink, offered = StagedUpdate(area), big(5)
            async with world.shelf.offer(offered) as offer:
                report = await world.downloader.fetch(world.pair.here, offer.ref, sink)
                found = content(sink) == bytes(offered["big"])
            area.close()
            return found, report.repulled_chunks, area.memory_bytes

    assert sim(main) == (True, 2, 0)


def test_damaged_neighbours_are_asked_for_together(sim):
    """One range of two chunks; the last chunk of a tensor may be short."""

    async def main():
        array = np.random.default_rng(2).integers(0, 255, 2 * MIB + 77, dtype=np.uint8)
        offered = TensorSet.from_params({"w": array})
        async with pulling(flipped(int(1.5 * MIB), int(2.0001 * MIB))) as world:
            offer, sink = world.shelf.put(offered), MemorySink()
            report = await world.downloader.fetch(world.pair.here, offer.ref, sink)
            opens = [frame.kind.__name__ for frame in world.pair.near.sent()].count("Open")
            return same(sink.tensors, offered), report.repulled_bytes, opens

    # The manifest, the tensor, its chunks' digests, the range.
    assert sim(main) == (True, MIB + 77, 4)


def test_a_small_tensor_is_pulled_again_whole(sim):
    """It is one chunk anyway."""

    async def main():
        async with pulling(flipped(500)) as world:
            offered = TensorSet.from_params({"w": np.arange(1000)})
            async with world.shelf.offer(offered) as offer:
                sink = MemorySink()
                report = await world.downloader.fetch(world.pair.here, offer.ref, sink)
                return same(sink.tensors, offered), report.repulled_bytes, report.repulled_chunks

    assert sim(main) == (True, 8000, 1)


def test_a_chunk_that_the_source_read_badly_is_mended(sim):
    """The digest was known before; the disk reads well at the second try."""

    async def main():
        async with pulling(sim_links()) as world:
            offered = big(4)
            known = {"big": tensor_digest(offered["big"])}
            offer = world.shelf.put(Damaged(offered, 3 * MIB), digests=known)
            sink = MemorySink()
            report = await world.downloader.fetch(world.pair.here, offer.ref, sink)
            return same(sink.tensors, offered), report.repulled_chunks, report.repulled_bytes

    assert sim(main) == (True, 1, MIB)


def test_a_source_that_stays_damaged_is_given_up(sim):
    """It is a typed error after ``max_resends``, and never a tensor."""

    async def main():
        async with pulling(sim_links(), Limits(max_resends=2)) as world:
            offered = big(3)
            known = {"big": tensor_digest(offered["big"])}
            offer = world.shelf.put(Damaged(offered, MIB, times=99), digests=known)
            sink = MemorySink()
            with pytest.raises(DigestMismatch) as caught:
                await world.fetch(offer.ref, sink)
            return caught.value.tensor, sink._arrivals.state, offer.served[READER]

    # All chunks are as the source reads them, so that all of it is asked for again.
    assert sim(main) == ("big", SinkState.DISCARDED, 9 * MIB)


@pytest.mark.parametrize("answer", [b"", b"x" * 15, b"x" * 17, b"x" * 2**20])
def test_digests_of_another_length_are_refused(sim, answer):
    """A peer cannot make the reader compare, or keep, what is no list of digests."""

    async def main():
        async with pulling(sim_links()) as world:
            offered = big(2)
            offer = world.shelf.put(offered)

            def lie(channel):
                request = PULL_SCHEMA.decode(channel.header, Limits())
                if isinstance(request, DigestRequest):
                    channel.send_soon(answer)
                    channel.end(bytes(32))
                else:
                    channel.send_soon(offered["big"] if request.tensor else offer.layout)
                    channel.end(bytes(32))

            world.pair.there.serve(PULL_TOPIC, lie)
            with pytest.raises(RemoteProtocolError, match="bad_digests"):
                await world.fetch(offer.ref)
            return world.pair.here.ended

    assert not sim(main)


def test_digests_are_told_to_readers_only_and_computed_once(sim):
    """Five ask at once for the chunks' and the tensors' digests; others learn nothing."""

    async def main():
        async with pulling(sim_links()) as world:
            offered = big(3)
            offer = world.shelf.put(offered)

            async def ask(key, tensor):
                header = PULL_SCHEMA.encode(DigestRequest(key, tensor))
                channel = world.pair.here.open(PULL_TOPIC, header, OpenOptions(end=True))
                channel.collect(MIB)
                trailer = await channel.landed()
                return b"".join(map(bytes, channel.collected())), trailer

            digest = tensor_digest(offered["big"])
            chunks = [await ask(offer.ref.key, "big") for _ in range(3)]
            assert chunks == [(chunk_digests(offered["big"]), digest)] * 3
            assert await ask(offer.ref.key, "") == (digest, b"")
            for key, tensor in ((offer.ref.key, "small"), ("0" * 32, "big")):
                with pytest.raises(Exception, match="reset with code 4"):
                    await ask(key, tensor)
            return offer.hashing, len(offer.channels)

    assert sim(main) == ({}, 0)


def test_what_landed_can_be_rejected_and_read():
    """Of both kinds of sink; what was adopted belongs to somebody else."""
    area = StagingArea(0)
    for sink in (MemorySink(), StagedUpdate(area), StagedUpdate(StagingArea(MIB))):
        offered = TensorSet.from_params({"w": np.arange(100, dtype=np.uint8), "v": np.ones(1)})
        sink.begin(offered.specs)
        sink.write("w", 0, offered["w"])
        assert bytes(sink.read("w", 10, 5)) == bytes(range(10, 15))
        sink.reject("w", 20, 30)
        with pytest.raises(TransferError, match="have not landed"):
            sink.read("w", 49, 2)
        sink.destination("w", 20, 30)[:] = bytes(range(20, 50))
        sink.landed("w", 20, 30)
        sink.adopt("v", offered["v"])
        with pytest.raises(TransferError, match="adopted"):
            sink.reject("v", 0, 8)
        sink.finish()
    area.close()


def test_a_range_is_told_with_the_digest_of_the_whole(sim):
    """So a tensor that was resumed or mended is verified like any other."""

    async def main():
        async with pulling(sim_links()) as world:
            offered = big(2)
            offer = world.shelf.put(offered)
            header = PULL_SCHEMA.encode(PullRequest(offer.ref.key, "big", MIB, MIB + 5))
            channel = world.pair.here.open(PULL_TOPIC, header, OpenOptions(end=True))
            channel.collect(5)
            return await channel.landed() == tensor_digest(offered["big"])

    assert sim(main)
