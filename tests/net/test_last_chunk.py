"""What is sent last on a channel, over links that hand objects over and over bytes."""

from __future__ import annotations

import pytest

from flare_async.errors import LocalProtocolError
from flare_async.testing.pair import connected
from tests.net.peers import LIMITS, memory_links, sim_pair


@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_the_last_chunk_brings_the_end_and_its_trailer(sim, size):
    """The reader sees all bytes, then the end; the sender is acknowledged once."""

    async def main():
        async with sim_pair() as pair:
            mine, theirs = await pair.open("up")
            mine.send_last(bytes(size), b"digest")
            got = b"".join([bytes(chunk) async for chunk in theirs])
            return got, theirs.trailer, mine.ending

    assert sim(main) == (bytes(size), b"digest", True)


def test_a_leased_channel_has_its_bytes_and_the_end_of_one_frame(sim):
    """Over a memory link the frame comes whole: its payload goes to the lease, its end follows."""

    async def main():
        async with connected(memory_links, LIMITS) as pair:
            mine, theirs = await pair.open("up")
            view = memoryview(bytearray(6))
            theirs.lease(view)
            mine.send_last(b"tensor", b"digest")
            return await theirs.landed(), bytes(view)

    assert sim(main) == (b"digest", b"tensor")


def test_nothing_can_be_sent_behind_the_last_chunk(sim):
    """The direction has ended for whoever sends, too."""

    async def main():
        async with sim_pair() as pair:
            mine, _ = await pair.open("up")
            mine.send_last(b"x")
            with pytest.raises(LocalProtocolError, match="has ended"):
                mine.send_last(b"y")

    sim(main)
