"""F36: without descriptors nobody new is accepted, who is there stays, and it recovers."""

from __future__ import annotations

import pytest

from flare_async.errors import FlareError
from flare_async.limits import Limits
from flare_async.net.registry import Transports
from tests.faults.real_ends import Dialling, dialled
from tests.faults.real_leaks import leaving_nothing
from tests.faults.real_process import child
from tests.faults.real_shelf import fetch, ref_of
from tests.transports.loops import LOOPS

LIMITS = Limits(handshake_timeout=0.3, shutdown_timeout=0.3)


async def comes_in(dial):
    """Try to begin a session until that succeeds; return how many tries failed."""
    for failed in range(20):
        try:
            async with dialled(dial, LIMITS, f"later-{failed}", 1):
                return failed
        except FlareError:
            pass
    raise AssertionError("it never recovered")


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
def test_f36_sessions_go_on_and_accepting_recovers(loop):
    """The loop of the child that runs out of them is asyncio's or uvloop's."""

    async def main():
        async with child("descriptors", loop=loop) as far:
            address, *words = await far.words()
            dial = Dialling(Transports(LIMITS), address)
            async with dialled(dial, LIMITS) as session:
                first = await fetch(session, ref_of(words))
                far.tell("exhaust")
                taken = int((await far.words())[0])
                with pytest.raises(FlareError):
                    async with dialled(Dialling(dial.network, address), LIMITS, "other", 1):
                        pass
                again = await fetch(session, ref_of(words))
                far.tell("free")
                assert await far.words() == ["freed"]
                failed = await comes_in(dial)
                third = await fetch(session, ref_of(words))
                digests = {one.model_digest() for one in (first, again, third)}
                assert (session.epoch, len(digests), taken > 20) == (0, 1, True)
            far.tell("end")
            assert int((await far.words())[0]) >= 2
            assert await far.words() == ["ended"]
            return failed

    assert leaving_nothing(main) <= 10  # asyncio looks again after a second
