"""References that are guessed, over or broken, and pulls that resume wrongly (B33, B34)."""

from __future__ import annotations

import pytest

from flare_async.errors import ChannelReset, DigestMismatch, OfferGone, OfferNotFound, TransferError
from flare_async.limits import Limits
from flare_async.net.channel import Channel
from flare_async.transfer.digest import tensor_digest
from flare_async.transfer.pull import PULL_SCHEMA, PULL_TOPIC, PullRequest, TensorRef
from flare_async.transfer.sink import MemorySink
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import OpenOptions
from tests.transfer.pulling import READER, big, pulling, same, sim_links

MIB_1 = 2**20


def pulled(main, sim):
    """Run ``main(world)`` between an owner and a reader on a simulated network."""

    async def run():
        async with pulling(sim_links(), Limits(max_resends=1)) as world:
            return await main(world)

    return sim(run)


async def ask(world, ref: TensorRef, name: str, start: int, stop: int) -> tuple[bytes, bytes]:
    """Ask by hand for a range; return its bytes and the trailer."""
    header = PULL_SCHEMA.encode(PullRequest(ref.key, name, start, stop))
    channel: Channel = world.pair.here.open(PULL_TOPIC, header, OpenOptions(end=True))
    data = b"".join([bytes(chunk) async for chunk in channel])
    return data, channel.trailer


async def refusal(world, ref: TensorRef, name: str = "big", start: int = 0, stop: int = 1):
    """Return code and message of the reset that answers a request."""
    with pytest.raises(ChannelReset) as caught:
        await ask(world, ref, name, start, stop)
    return caught.value.reset_code, caught.value.message


def other_key(ref: TensorRef, key: str) -> TensorRef:
    """Return a reference with another key."""
    return TensorRef(ref.owner, key, ref.version, ref.layout, ref.nbytes)


def test_b33_a_guess_and_another_readers_reference_look_the_same(sim):
    """So asking tells nobody what exists."""

    async def main(world):
        mine = world.shelf.put(big(1), readers=[READER])
        theirs = world.shelf.put(big(1), readers=["somebody else"])
        guessed = other_key(mine.ref, "0" * 32)
        with pytest.raises(OfferNotFound):
            await world.fetch(theirs.ref)
        assert theirs.served == {}
        return {await refusal(world, ref) for ref in (theirs.ref, guessed)}

    assert pulled(main, sim) == {(ResetCode.NOT_FOUND, "no such offer")}


@pytest.mark.parametrize("key", ["", "0" * 31, "0" * 33, "../x", "\0", "%s", "x" * 5000])
def test_b33_keys_of_any_form_are_not_found(sim, key):
    """A key is looked up and nothing else."""

    async def main(world):
        ref = world.shelf.put(big(1)).ref
        return await refusal(world, other_key(ref, key))

    assert pulled(main, sim)[0] == ResetCode.NOT_FOUND


def test_b33_keys_cannot_be_guessed(sim):
    """Sixteen bytes of entropy each, none of them from the one before."""

    async def main(world):
        return [world.shelf.put(big(1)).ref.key for _ in range(50)]

    keys = pulled(main, sim)
    assert len(set(keys)) == 50
    assert {len(bytes.fromhex(key)) for key in keys} == {16}


def test_b33_an_expired_reference_is_gone(sim):
    """Told as such to its readers, who may stop asking."""

    async def main(world):
        offer = world.shelf.put(big(1), readers=[READER])
        await world.fetch(offer.ref)
        world.shelf.withdraw(offer)
        with pytest.raises(OfferGone):
            await world.fetch(offer.ref)
        return await refusal(world, offer.ref)

    assert pulled(main, sim) == (ResetCode.GONE, "the offer has ended")


def test_b33_a_finished_reference_can_be_read_to_its_end_again(sim):
    """The same bytes and the same digest; a read of nothing ends at once."""

    async def main(world):
        tensors = big(1)
        ref = world.shelf.put(tensors).ref
        for _ in range(2):
            assert same(await world.fetch(ref), tensors)
        end = await ask(world, ref, "big", MIB_1, MIB_1)
        assert end == await ask(world, ref, "big", MIB_1, MIB_1)
        return end == (b"", tensor_digest(tensors["big"]))

    assert pulled(main, sim)


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        (0, MIB_1 + 1),
        (MIB_1 + 1, MIB_1 + 1),
        (2**62, 2**63),
        (0, 2**64 - 1),
        (-1, 5),
        (5, 4),
        (-5, -1),
    ],
)
def test_b34_a_range_past_the_end_or_backwards_is_refused(sim, start, stop):
    """Nothing is served, not even what would fit."""

    async def main(world):
        offer = world.shelf.put(big(1))
        answer = await refusal(world, offer.ref, "big", start, stop)
        return answer, sum(offer.served.values())

    assert pulled(main, sim) == ((ResetCode.NOT_FOUND, "no such tensor or range"), 0)


@pytest.mark.parametrize("start", [1, 7, 65_535, 65_537, MIB_1 - 1])
def test_b34_an_offset_between_chunks_is_served_exactly_from_there(sim, start):
    """A resume goes on at the last byte that came, wherever that was."""

    async def main(world):
        tensors = big(1)
        data, trailer = await ask(world, world.shelf.put(tensors).ref, "big", start, MIB_1)
        assert trailer == tensor_digest(tensors["big"])
        return data == bytes(tensors["big"][start:])

    assert pulled(main, sim)


def test_b34_bytes_of_another_content_are_never_mixed_in(sim):
    """An owner whose bytes do not fit their digest is asked again, and then given up."""

    async def main(world):
        tensors = big(1)
        offer = world.shelf.put(tensors)
        offer.digests["big"] = tensor_digest(memoryview(bytes(MIB_1)))
        sink = MemorySink()
        with pytest.raises(DigestMismatch):
            await world.fetch(offer.ref, sink)
        with pytest.raises(TransferError):
            _ = sink.tensors
        return offer.served[READER]

    assert pulled(main, sim) == 2 * MIB_1
