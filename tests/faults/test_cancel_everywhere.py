"""F43: cancelled at every await, nothing is left and what is shared goes on working."""

from __future__ import annotations

import tempfile
from contextlib import asynccontextmanager

import anyio
import pytest

from flare_async.limits import MIB, Limits
from flare_async.net.clock import LoopClock
from flare_async.net.rng import SeededRandom
from flare_async.roles.context import open_context
from flare_async.roles.server import Server
from flare_async.testing import Recorder, SimNetwork, cancel_everywhere, connected
from flare_async.testing.link_checks import HELLO, bulk, sample
from flare_async.wire.session import OpenOptions
from tests.faults.cancelling import (
    LIMITS,
    LOOPS,
    address_of,
    everywhere,
    linked,
    listening,
    network_of,
)

on_channels = pytest.mark.parametrize(
    ("scheme", "loop"), [("sim", "sim"), *(("tcp", loop) for loop in LOOPS)]
)


async def connect_and_close(state):
    """Connect, accept, say something, and close in order."""
    network, listener = state
    here = await network.connect(listener.address)
    try:
        there = await anext(listener)
        there.start(Recorder())
        here.start(Recorder())
        here.send_soon([HELLO])
        await here.aclose()
        there.abort()
    finally:
        here.abort()


async def can_connect(state):
    """The listener still takes links, when those are gone that nobody has accepted."""
    network, listener = state
    here = await network.connect(listener.address)
    recorder = Recorder()
    here.start(Recorder())
    here.send_soon([HELLO])
    while not recorder.frames:
        recorder, there = Recorder(), await anext(listener)
        there.start(recorder)
        await recorder.until_frames(1)
        there.abort()
    here.abort()


@everywhere
def test_f43_connecting_and_closing(scheme, loop):
    """A connect that is cancelled leaves no socket, and the listener works."""
    found = cancel_everywhere(
        connect_and_close,
        given=lambda: listening(scheme),
        check=can_connect,
        loop_factory=LOOPS.get(loop),
    )
    assert scheme == "memory" or found.cancelled > 0


async def fill_and_wait(ends):
    """Fill the link until it is full, and wait for a reader to make room."""
    here, there = ends
    here.start(Recorder())
    here.send_soon([HELLO, *bulk(here, sample(MIB))])
    there.start(Recorder())
    await here.wait_writable()


@everywhere
def test_f43_waiting_for_room(scheme, loop):
    """A wait for room that is cancelled leaves the link as it was."""
    cancel_everywhere(
        fill_and_wait,
        given=lambda: linked(scheme),
        check=lambda ends: ends[0].wait_writable(),
        loop_factory=LOOPS.get(loop),
    )


async def a_session(state):
    """Enter and leave two sessions."""
    network, listener = state

    @asynccontextmanager
    async def make():
        ends = [await network.connect(listener.address)]
        try:
            ends.append(await anext(listener))
            yield tuple(ends)
        finally:
            for end in ends:
                end.abort()

    async with connected(make, LIMITS) as pair:
        mine, theirs = await pair.open("topic")
        mine.end()
        await theirs.landed()


@everywhere
def test_f43_entering_and_leaving_sessions(scheme, loop):
    """Handshake, goodbye and everything between: no task and no socket is left."""
    found = cancel_everywhere(
        a_session, given=lambda: listening(scheme), loop_factory=LOOPS.get(loop)
    )
    assert found.cancelled > 4


async def listen_and_close(stage):
    """Listen on a free address and stop."""
    network, address = stage
    listener = await network.listen(address)
    await listener.aclose()


@everywhere
def test_f43_listening(scheme, loop):
    """A listen that is cancelled leaves no socket."""

    @asynccontextmanager
    async def stage():
        with tempfile.TemporaryDirectory(prefix="fl") as folder:
            yield network_of(scheme), address_of(scheme, folder)

    cancel_everywhere(listen_and_close, given=stage, loop_factory=LOOPS.get(loop))


@asynccontextmanager
async def a_channel(scheme):
    """Yield a pair of sessions and both ends of a channel, one of which is leased."""
    async with connected(lambda: linked(scheme), LIMITS) as pair:
        memory = bytearray(3 * MIB)
        mine = pair.here.open("bulk", options=OpenOptions(leased=True))
        mine.lease(memoryview(memory))
        yield pair, mine, await anext(pair.there), memory


async def send_and_land(state):
    """Send more than the window and wait until the leased side has it all."""
    _, mine, theirs, memory = state
    for _ in range(len(memory) // MIB):
        await theirs.send(b"\x01" * MIB)
    theirs.end(b"done")
    assert await mine.landed() == b"done"


async def session_works(state):
    """Both directions still carry messages."""
    await state[0].round_trip()


@on_channels
def test_f43_sending_and_landing_on_a_channel(scheme, loop):
    """The session goes on, whatever became of the channel."""
    found = cancel_everywhere(
        send_and_land,
        given=lambda: a_channel(scheme),
        check=session_works,
        loop_factory=LOOPS.get(loop),
    )
    assert found.cancelled > 2


async def talk(state):
    """Receive on a channel that the other end feeds slowly."""
    pair = state[0]
    mine, theirs = await pair.open("words")

    async def feed():
        for _ in range(3):
            await anyio.sleep(0.003)
            theirs.send_soon(b"word")
        theirs.end()

    async with anyio.create_task_group() as group:
        group.start_soon(feed)
        assert b"".join([bytes(chunk) async for chunk in mine]) == b"word" * 3


@on_channels
def test_f43_receiving_on_a_channel(scheme, loop):
    """Cancelled receivers leave their channel to others."""
    found = cancel_everywhere(
        talk, given=lambda: a_channel(scheme), check=session_works, loop_factory=LOOPS.get(loop)
    )
    assert found.cancelled > 4


@asynccontextmanager
async def a_context():
    """Yield a context on a simulated network."""
    clock, random = LoopClock(), SeededRandom(1)
    limits = Limits(start_timeout=10)
    network = SimNetwork(clock, random, limits=limits)
    async with open_context(clock, random, network, limits) as context:
        yield context


async def serve_nobody(context):
    """Listen and wait for sites that do not come."""
    server = Server(context)
    async with server.listen("sim://server"):
        assert await server.wait_for(["a", "b"], 0) == ()


async def can_listen(context):
    """The name is free again."""
    listener = await context.network.listen("sim://server")
    await listener.aclose()


def test_f43_listening_and_waiting_for_sites():
    """A server that is cancelled frees its address."""
    found = cancel_everywhere(serve_nobody, given=a_context, check=can_listen)
    assert found.cancelled > 0
