"""A later link that breaks inside its first words, or speaks nonsense, does not end the session."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
import structlog
import uvloop

from flare_async.limits import KIB, MIB, Limits
from flare_async.net.clock import LoopClock
from flare_async.net.registry import Transports
from flare_async.net.rng import SeededRandom
from flare_async.roles.context import open_context
from flare_async.roles.entrance import opened
from flare_async.roles.server import Server
from flare_async.testing import ToxicProxy
from flare_async.transfer.pull import PULL_SCHEMA, PULL_TOPIC, PullRequest
from flare_async.wire.codec import encode
from flare_async.wire.frames import Hello
from flare_async.wire.head import HEAD_BYTES, PREAMBLE
from flare_async.wire.session import OpenOptions
from tests.transfer.pulling import big

LOOPS = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}
LIMITS = Limits(
    window_bytes=256 * KIB,
    link_bytes=MIB,
    frame_bytes=64 * KIB,
    retry_cap=0.02,
    handshake_timeout=2.0,
    shutdown_timeout=0.5,
)
BOUND = 10.0  # seconds until a test that hangs fails
PLACES = {
    "first byte": 1,
    "preamble": len(PREAMBLE) // 2,
    "behind the preamble": len(PREAMBLE),
    "head": len(PREAMBLE) + HEAD_BYTES // 2,
    "behind the head": len(PREAMBLE) + HEAD_BYTES,
    "body": len(PREAMBLE) + HEAD_BYTES + 5,
}
HELLO = encode(Hello(1, "server", bytes(16), 1, b"", "server", 65_536, MIB))[0]
BAD_GATEWAY = (
    b"HTTP/1.1 502 Bad Gateway\r\nServer: nginx\r\nContent-Length: 15\r\n\r\n502 Bad Gateway"
)
NONSENSE = {
    "502": BAD_GATEWAY,
    "502, cut short": BAD_GATEWAY[:7],
    "a TLS alert": bytes.fromhex("15030300020246"),
    "zeros": bytes(200),
    "a preamble and then text": PREAMBLE + BAD_GATEWAY,
    "a hello that is no hello": HELLO[:-3] + b"???",
    "silence": b"",
}

every_loop = pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)


class Impostor(asyncio.Protocol):
    """Says something in the server's place, then ends its side in order."""

    def __init__(self, answer):
        self.answer = answer

    def connection_made(self, transport):
        """Say it."""
        transport.write(self.answer)
        transport.write_eof()


class Gate(ToxicProxy):
    """A proxy that says ``answers`` itself, one for each new connection, while there are any."""

    def __init__(self, upstream):
        super().__init__(upstream)
        self.upstream = upstream
        self.answers = []

    def _accept(self):
        return Impostor(self.answers.pop(0)) if self.answers else super()._accept()


@dataclass
class Site:
    """A session in the middle of a pull, and the server that it pulls from."""

    session: object
    server: Server
    channel: object
    got: bytearray
    wanted: bytes

    async def step(self):
        """Let the pull go on."""
        self.got += await self.channel.receive()

    async def until_epoch(self, least):
        """Wait until the session has resumed over a link with that number, or has ended."""
        session = self.session
        while session.epoch < least or not session.attached or session.machine.resuming:
            assert not session.ended, session.error
            await asyncio.sleep(0.005)

    async def finish(self):
        """Pull the rest: the very bytes, none twice."""
        async for chunk in self.channel:
            self.got += chunk
        assert bytes(self.got) == self.wanted
        assert self.session.error is None
        assert self.server.sites["site-1"].error is None


@asynccontextmanager
async def pulling_through(make_door):
    """Yield a site and the door through which it dials."""
    tensors, network = big(3), Transports(LIMITS)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        stack.enter_context(structlog.testing.capture_logs())
        await enter(asyncio.timeout(BOUND))
        context = await enter(open_context(LoopClock(), SeededRandom(5), network, LIMITS))
        server = Server(context)
        door = await enter(make_door(await enter(server.listen("tcp://127.0.0.1:0"))))
        endpoint = context.endpoint("site-1", "client")
        session = await enter(opened(context, endpoint, door.address))
        ref = server.shelf.put(tensors, readers=["site-1"]).ref
        request = PULL_SCHEMA.encode(PullRequest(ref.key, "big", 0, tensors.nbytes))
        channel = session.open(PULL_TOPIC, request, OpenOptions(end=True))
        wanted = tensors.numpy()["big"].tobytes()
        site = Site(session, server, channel, bytearray(), wanted)
        await site.step()
        yield site, door


def run_on(loop, main):
    """Run on a real loop."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


@every_loop
@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_f06_a_later_link_that_is_reset_inside_its_hello(place, direction, loop):
    """Whoever's hello it is: the next dial succeeds and the pull goes on."""

    async def main():
        async with pulling_through(ToxicProxy) as (site, proxy):
            proxy.reset_peers()
            meter = getattr(proxy, direction)
            proxy.reset_at([meter.forwarded + place], direction)
            while proxy.resets < 1:
                await asyncio.sleep(0.005)
            await site.until_epoch(2)
            await site.finish()
            assert proxy.resets == 1

    run_on(loop, main)


@every_loop
@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE)
def test_f06_nonsense_in_the_place_of_a_later_hello(answer, loop):
    """A proxy whose server restarts: two wrong answers, each closed in order, then the server."""

    async def main():
        async with pulling_through(Gate) as (site, gate):
            gate.answers += [answer, answer]
            gate.reset_peers()
            await site.until_epoch(1)
            await site.finish()
            assert gate.answers == []

    run_on(loop, main)


@every_loop
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_f06_a_later_hello_that_ends_in_order_before_it_is_whole(place, loop):
    """An end of the stream inside the server's hello is no word of the server."""

    async def main():
        async with pulling_through(Gate) as (site, gate):
            gate.answers.append(HELLO[:place])
            gate.reset_peers()
            await site.until_epoch(1)
            await site.finish()
            assert gate.answers == []

    run_on(loop, main)


@pytest.mark.parametrize("sent", NONSENSE.values(), ids=NONSENSE)
def test_f06_a_stranger_at_the_server_while_a_site_is_away(sent):
    """What anybody says on a new link is no word of the site that is expected back."""

    async def main():
        async with pulling_through(Gate) as (site, gate):
            place = urlsplit(gate.upstream)
            gate.reset_peers()
            _, writer = await asyncio.open_connection(place.hostname, place.port)
            writer.write(sent)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            await site.until_epoch(1)
            await site.finish()

    asyncio.run(main())


@every_loop
def test_f06_many_broken_hellos_in_a_row(loop):
    """Later links end in order, each in another byte; no byte of the pull is lost or repeated."""

    async def main():
        async with pulling_through(Gate) as (site, gate):
            gate.answers += [HELLO[:at] for at in range(0, len(HELLO), 7)]
            gate.reset_peers()
            await site.until_epoch(1)
            await site.finish()
            assert gate.answers == []

    run_on(loop, main)
