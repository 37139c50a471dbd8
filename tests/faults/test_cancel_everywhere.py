"""F43: cancelled at every await, nothing is left and what is shared goes on working."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import asynccontextmanager

import anyio
import pytest
import uvloop

from flare_async.limits import MIB, Limits
from flare_async.net.clock import LoopClock
from flare_async.net.registry import Transports
from flare_async.net.rng import SeededRandom
from flare_async.roles.context import open_context
from flare_async.roles.round import RoundTask
from flare_async.roles.server import Server
from flare_async.testing import Recorder, SimNetwork, cancel_everywhere, connected, link_pair
from flare_async.testing.link_checks import HELLO, bulk, sample
from flare_async.transports import memory as _imported_before_the_loop  # noqa: F401
from flare_async.wire.session import OpenOptions
from tests.roles.federation import MODEL as SMALL
from tests.roles.federation import Trains, expected, federation, values
from tests.transfer.pulling import big, pulling, same

LOOPS = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}
REAL = [(scheme, loop) for scheme in ("memory", "tcp", "unix") for loop in LOOPS]
everywhere = pytest.mark.parametrize(("scheme", "loop"), [*REAL, ("sim", "sim")])
MODEL = big(1)
LIMITS = Limits(window_bytes=2 * MIB, shutdown_timeout=0.5)


def address_of(scheme, folder):
    """Return an address to listen on."""
    return {"tcp": "tcp://127.0.0.1:0", "unix": f"unix://{folder}/s"}.get(scheme, f"{scheme}://s")


def network_of(scheme):
    """Return a network port of the running loop."""
    if scheme == "sim":
        return SimNetwork(LoopClock(), SeededRandom(1), limits=LIMITS)
    return Transports(LIMITS)


@asynccontextmanager
async def listening(scheme):
    """Yield a network and a listener."""
    with tempfile.TemporaryDirectory(prefix="fl") as folder:
        network = network_of(scheme)
        listener = await network.listen(address_of(scheme, folder))
        try:
            yield network, listener
        finally:
            await listener.aclose()


@asynccontextmanager
async def linked(scheme):
    """Yield both ends of a new connection."""
    with tempfile.TemporaryDirectory(prefix="fl") as folder:
        async with link_pair(network_of(scheme), address_of(scheme, folder)) as ends:
            yield ends


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
async def a_channel():
    """Yield a pair of sessions and both ends of a channel, one of which is leased."""
    async with connected(lambda: linked("sim"), LIMITS) as pair:
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


def test_f43_sending_and_landing_on_a_channel():
    """The session goes on, whatever became of the channel."""
    found = cancel_everywhere(send_and_land, given=a_channel, check=session_works)
    assert found.cancelled > 2


async def talk(state):
    """Receive on a channel that the other end feeds slowly."""
    pair = state[0]
    mine, theirs = await pair.open("words")

    async def feed():
        for _ in range(3):
            await anyio.sleep(0.1)
            theirs.send_soon(b"word")
        theirs.end()

    async with anyio.create_task_group() as group:
        group.start_soon(feed)
        assert b"".join([bytes(chunk) async for chunk in mine]) == b"word" * 3


def test_f43_receiving_on_a_channel():
    """Cancelled receivers leave their channel to others."""
    assert cancel_everywhere(talk, given=a_channel, check=session_works).cancelled > 4


@asynccontextmanager
async def an_offer(scheme):
    """Yield a world and an offered model."""
    async with pulling(lambda: linked(scheme), LIMITS) as world:
        yield world, world.shelf.put(MODEL, readers=["connector"]).ref


async def pull(state):
    """Fetch the model."""
    world, ref = state
    assert same(await world.fetch(ref), MODEL)


async def can_pull(state):
    """Nothing of the cancelled pull is left, and the next one succeeds."""
    await pull(state)
    await state[0].pair.round_trip()
    assert state[0].pulls() == []


@pytest.mark.parametrize("scheme", ["sim", "memory"])
def test_f43_fetching_a_model(scheme):
    """A pull that is cancelled gives everything back."""
    found = cancel_everywhere(pull, given=lambda: an_offer(scheme), check=can_pull)
    assert found.cancelled > 0


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


@asynccontextmanager
async def a_federation():
    """Yield three sites that train for a second each."""
    workers = {f"s{number}": Trains(number, seconds=1) for number in range(3)}
    async with federation(workers, scheme="sim") as made:
        yield made


async def a_round(made):
    """Run one round."""
    await made.play(0)


async def next_round_works(made):
    """The same sessions carry the next round."""
    assert made.network.made == 3
    _, model = await made.play(1)
    assert values(model) == expected((0, 1), (1, 1), (2, 1))


def test_f43_a_round():
    """A round that is cancelled anywhere takes back its tasks; the next one is whole."""
    found = cancel_everywhere(a_round, given=a_federation, check=next_round_works)
    assert found.cancelled > 4


class Boom(Exception):
    """Raised by the body of a block."""


async def raise_at_the_first_update(made):
    """Run a round whose body raises."""
    async with made.cohort.round(RoundTask("job", 0, 1), SMALL) as updates:
        async for _ in updates:
            raise Boom


def test_f43_a_body_that_raises():
    """The error leaves the block as it is; a cancellation on the way out is not lost."""
    cancel_everywhere(
        raise_at_the_first_update, given=a_federation, check=next_round_works, raises=Boom
    )
