"""A transfer whose link is reset ten times, anywhere on the wire, heads included."""

from __future__ import annotations

import random

import pytest

from flare_async.limits import MIB, Limits
from flare_async.net.registry import Transports
from flare_async.testing.proxy import ToxicProxy
from tests.faults.real_ends import Dialling, dialled
from tests.faults.real_leaks import leaving_nothing
from tests.faults.real_process import child
from tests.faults.real_shelf import fetch, ref_of, tensors

RESETS = 10
LIMITS = Limits(retry_cap=4.0)


async def transferred(mebibytes, seed):
    """Pull through a proxy that resets ten times; return what it cost."""
    size = mebibytes * MIB
    positions = random.Random(seed).sample(range(size), RESETS)
    async with child("offers", str(mebibytes)) as far:
        address, *words = await far.words()
        async with ToxicProxy(address) as proxy:
            proxy.reset_at(positions)
            async with dialled(Dialling(Transports(LIMITS), proxy.address), LIMITS) as session:
                got = await fetch(session, ref_of(words))
                received, resets, payload = session.flow.nbytes, proxy.resets, proxy.down.payload
            far.tell("end")
            in_flight = [int(word) for word in await far.words()]
        assert await far.words() == ["ended"]
    return got, received, resets, payload, in_flight


def judge(mebibytes, seed):
    """Expect the bytes that were offered, and few that were sent twice."""
    size = mebibytes * MIB
    got, received, resets, payload, in_flight = leaving_nothing(
        lambda: transferred(mebibytes, seed)
    )
    assert got.model_digest() == tensors(size).model_digest()
    assert (resets, len(in_flight) >= RESETS - 1) == (RESETS, True)
    assert size <= received <= 1.001 * size  # nothing but manifests came beside it, nothing twice
    assert payload <= 1.01 * size + sum(in_flight)
    assert max(in_flight) <= LIMITS.link_bytes


@pytest.mark.slow
@pytest.mark.parametrize(("mebibytes", "seed"), [(64, 1), (256, 2)])
def test_f06_a_transfer_that_is_reset_ten_times_sends_little_twice(mebibytes, seed):
    """The digest of each tensor is verified as it lands; the issue's gigabyte is a test beside."""
    judge(mebibytes, seed)
