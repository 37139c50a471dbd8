"""F06: a reset at any byte of a frame loses nothing, repeats nothing, and never desynchronises."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from flare_async.limits import KIB, Limits
from flare_async.net.clock import LoopClock
from flare_async.net.endpoint import FIRST_WINDOW
from flare_async.net.registry import Transports
from flare_async.net.rng import SeededRandom
from flare_async.testing.network import SimNetwork
from flare_async.testing.proxy import ToxicProxy
from flare_async.testing.strikes import Cut
from flare_async.transfer.digest import tensor_digest
from flare_async.wire.codec import HEAD_BYTES, encode
from flare_async.wire.frames import Hello, Open
from tests.faults.real_ends import Dialling, acceptor, dialled, receive_all
from tests.faults.real_leaks import leaving_nothing

LIMITS = Limits(window_bytes=256 * KIB, frame_bytes=64 * KIB, retry_cap=4.0)
DATA = bytes(range(251)) * 2500
DIGEST = tensor_digest(memoryview(DATA))
END = HEAD_BYTES + FIRST_WINDOW  # the first frame is as long as the first credit
PLACES = {
    "between frames": 0,
    "first byte of the head": 1,
    "last byte of the head": HEAD_BYTES - 1,
    "before the payload": HEAD_BYTES,
    "first byte of the payload": HEAD_BYTES + 1,
    "middle of the payload": HEAD_BYTES + FIRST_WINDOW // 2,
    "last byte of the payload": END - 1,
    "behind the frame": END,
}
BOTH_WAYS = pytest.mark.parametrize("way", ["up", "down"])
EVERYWHERE = pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)


def size(frame):
    """Return how many bytes a frame takes on the wire."""
    head, payload = encode(frame)
    return len(head) + len(payload)


def first_frame(way):
    """Return where in its direction the first frame with payload begins."""
    hello = Hello(1, "near", bytes(16), 0, b"", "test", FIRST_WINDOW, LIMITS.frame_bytes)
    if way == "down":
        return size(Hello(1, "far", bytes(16), 0, b"", "test", FIRST_WINDOW, LIMITS.frame_bytes))
    return size(hello) + size(Open(1, "bulk", b"", FIRST_WINDOW))


async def transfer(session, accepted, way):
    """Send the data one way over a channel; return what arrived and its trailer."""
    mine = session.open("bulk")
    while not accepted.sessions:
        await asyncio.sleep(0)
    theirs = await anext(accepted.sessions[0])
    source, target = (mine, theirs) if way == "up" else (theirs, mine)
    source.send_soon(DATA)
    source.end(DIGEST)
    with anyio.fail_after(10):
        return await receive_all(target), target.trailer


def judge(outcome, session, accepted):
    """Expect the very bytes, one resume at either end, and no protocol error anywhere."""
    data, trailer = outcome
    assert (len(data), tensor_digest(memoryview(data))) == (len(DATA), trailer)
    assert trailer == DIGEST
    far = accepted.sessions[0]
    assert (session.epoch, far.epoch, session.flow.links, far.flow.links) == (1, 1, 1, 1)
    assert (session.ended, far.ended, accepted.refused, len(accepted.sessions)) == (
        False,
        False,
        [],
        1,
    )


@BOTH_WAYS
@EVERYWHERE
def test_f06_on_real_sockets(way, place):
    """Through a proxy that forwards exactly so many bytes and then resets both sockets."""

    async def main():
        network = Transports(LIMITS)
        async with (
            acceptor(network, "tcp://127.0.0.1:0", LIMITS) as accepted,
            ToxicProxy(accepted.address) as proxy,
        ):
            proxy.reset_at([first_frame(way) + place], way)
            async with dialled(Dialling(network, proxy.address), LIMITS) as session:
                outcome = await transfer(session, accepted, way)
                assert (proxy.resets, len(proxy.connections)) == (1, 2)
                judge(outcome, session, accepted)

    leaving_nothing(main)


@BOTH_WAYS
@EVERYWHERE
def test_f06_in_simulation(sim, way, place):
    """The same places on a simulated link."""
    fault = Cut(after_bytes=first_frame(way) + place, site="near", direction=way)

    async def main():
        network = SimNetwork(LoopClock(), SeededRandom(4), limits=LIMITS, faults=(fault,))
        async with acceptor(network, "sim://far", LIMITS) as accepted:
            dial = Dialling(network.of("near"), accepted.address)
            async with dialled(dial, LIMITS) as session:
                outcome = await transfer(session, accepted, way)
                assert network.made == 2
                judge(outcome, session, accepted)

    sim(main)
