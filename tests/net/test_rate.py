"""A peer that moves too slowly is named, by whichever side waits for it (F02)."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from flare_async.errors import BelowMinRate
from flare_async.limits import KIB, Limits
from tests.net.peers import now, sim_pair

LIMITS = Limits(stall_timeout=10.0, min_rate=1000)


def test_f02_bytes_that_come_one_by_one_are_below_the_rate(sim):
    """No piece is ever complete, and still the reader learns who was too slow, and how slow."""

    async def main():
        async with sim_pair(LIMITS, bandwidth=50.0) as pair:
            mine, theirs = await pair.open("pull")
            theirs.send_soon(bytes(256 * KIB))
            mine.lease(memoryview(bytearray(256 * KIB)))
            began = now()
            with pytest.raises(BelowMinRate, match="acceptor pull: below min_rate") as caught:
                await mine.landed()
            return now() - began, caught.value.rate, caught.value.least

    seconds, rate, least = sim(main)
    assert 200 <= seconds <= 300
    assert rate < least == 1000


def test_f02_a_peer_above_the_rate_takes_as_long_as_it_needs(sim):
    """Twice the rate for many spans is no reason to give up."""

    async def main():
        async with sim_pair(LIMITS, bandwidth=2500.0) as pair:
            mine, theirs = await pair.open("pull")
            theirs.send_soon(bytes(256 * KIB))
            theirs.end(b"done")
            mine.lease(memoryview(bytearray(256 * KIB)))
            with anyio.fail_after(1000):
                trailer = await mine.landed()
            await asyncio.sleep(0)
            return trailer, now() > 100

    assert sim(main) == (b"done", True)
