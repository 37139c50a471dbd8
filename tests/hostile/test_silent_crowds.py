"""Crowds that connect and say too little, at listeners of every kind (B02, B03)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import pytest
import structlog

from flare_async.limits import Limits
from flare_async.net.clock import LoopClock
from flare_async.net.credentials import Credentials
from flare_async.net.registry import Transports
from flare_async.net.rng import SeededRandom
from flare_async.net.session import Session
from flare_async.roles.context import Context, open_context
from flare_async.roles.server import Server
from flare_async.testing import Recorder
from flare_async.transfer.pull import PULL_SCHEMA, PULL_TOPIC, PullRequest
from flare_async.wire.codec import PREAMBLE
from flare_async.wire.session import OpenOptions, Side
from tests.transfer.pulling import big
from tests.transports.certificates import Authority

pytestmark = pytest.mark.asyncio

BOUND = 15.0  # seconds until a test that hangs fails
CAP, CROWD = 8, 60
LIMITS = Limits(handshakes=CAP, handshake_timeout=60.0, shutdown_timeout=0.5)
QUICK = Limits(handshakes=CAP, handshake_timeout=0.3, shutdown_timeout=0.5)
SCHEMES = ("tcp", "tls", "ws", "wss")
CLIENT_HELLO = bytes.fromhex("160301010001000100fc0303")
REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\n"

# What a crowd says before it falls silent, as long as that is nothing whole.
WORDS = [
    ("tcp", b""),
    ("tcp", PREAMBLE),
    ("tls", b""),
    ("tls", CLIENT_HELLO),
    ("ws", b""),
    ("ws", REQUEST),
    ("wss", b""),
    ("wss", CLIENT_HELLO),
]
Believed = dict[str, Credentials]

every_word = pytest.mark.parametrize(
    ("scheme", "word"), WORDS, ids=[f"{scheme}-{word[:3]!r}" for scheme, word in WORDS]
)


@pytest.fixture(scope="module")
def believed(tmp_path_factory: pytest.TempPathFactory) -> Believed:
    """Return credentials of the server and of its sites."""
    authority = Authority(Path(tmp_path_factory.mktemp("crowd")))
    names = ("site-1", "latecomer")
    return {"server": authority.server()} | {name: authority.client(name) for name in names}


@dataclass
class Besieged:
    """A server with one honest site that stays in the middle of its pull."""

    context: Context
    server: Server
    address: str
    believed: Believed

    async def silent(self, stack: AsyncExitStack, word: bytes) -> asyncio.Task[None]:
        """Connect somebody who says a word and no more; return its wait for the end."""
        place = urlsplit(self.address)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        stack.push_async_callback(hang_up, writer)
        writer.write(word)
        end: asyncio.Task[None] = asyncio.ensure_future(read_to_the_end(reader))
        return end

    def network_of(self, name: str) -> Transports:
        """Return the network as a holder of credentials sees it."""
        return Transports(self.context.limits, self.believed[name])

    @asynccontextmanager
    async def site(self, name: str) -> AsyncIterator[Session]:
        """Enter a session as an honest site, at the first try."""
        link = await self.network_of(name).connect(self.address)
        endpoint = self.context.endpoint(name, "client")
        async with Session(link, Side.CONNECTOR, endpoint) as session:
            yield session


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """End a connection."""
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def read_to_the_end(reader: asyncio.StreamReader) -> None:
    """Read whatever comes, until the other side ends it."""
    with suppress(OSError):
        while await reader.read(1000):
            pass


async def until(ends: list[asyncio.Task[None]], count: int) -> None:
    """Wait until so many of a crowd were sent away; the stage bounds it."""
    while sum(end.done() for end in ends) < count:
        await asyncio.sleep(0.005)


@asynccontextmanager
async def besieged(scheme: str, limits: Limits, believed: Believed) -> AsyncIterator[Besieged]:
    """Yield a server of a scheme; an honest site's pull must go on through it all."""
    network = Transports(limits, believed["server"])
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        stack.enter_context(structlog.testing.capture_logs())
        stack.enter_context(anyio.fail_after(BOUND))
        context = await enter(open_context(LoopClock(), SeededRandom(5), network, limits))
        server = Server(context)
        address = await enter(server.listen(f"{scheme}://127.0.0.1:0"))
        made = Besieged(context, server, address, believed)
        me = await enter(made.site("site-1"))
        tensors = big(12)
        ref = server.shelf.put(tensors, readers=[me.endpoint.name]).ref
        request = PULL_SCHEMA.encode(PullRequest(ref.key, "big", 0, tensors.nbytes))
        pull = me.open(PULL_TOPIC, request, OpenOptions(end=True))
        got = len(await pull.receive())
        yield made
        got += sum([len(chunk) async for chunk in pull])
        assert (got, me.error, me.epoch) == (tensors.nbytes, None, 0)


@every_word
async def test_b03_a_silent_crowd_is_capped_and_keeps_nobody_out(
    scheme: str, word: bytes, believed: Believed
) -> None:
    """Beyond the cap the oldest goes: a latecomer gets in, whatever handshake comes before."""
    async with besieged(scheme, LIMITS, believed) as made, AsyncExitStack() as stack:
        ends = [await made.silent(stack, word) for _ in range(CROWD)]
        await until(ends, CROWD - CAP)
        assert [end.done() for end in ends[-CAP // 2 :]] == [False] * (CAP // 2)
        async with made.site("latecomer") as late:
            assert late.error is None
            assert "latecomer" in made.server.sites
        assert CROWD - CAP <= sum(end.done() for end in ends) <= CROWD - CAP + 2


@every_word
async def test_b02_a_silent_crowd_ends_with_its_deadline(
    scheme: str, word: bytes, believed: Believed
) -> None:
    """Nobody has to come for the last ones to be sent away."""
    async with besieged(scheme, QUICK, believed) as made, AsyncExitStack() as stack:
        ends = [await made.silent(stack, word) for _ in range(CAP)]
        await until(ends, CAP)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_b03_those_who_shook_hands_and_say_no_hello_are_capped_too(
    scheme: str, believed: Believed
) -> None:
    """TLS is done and the WebSocket is open: then the hello is missing."""
    async with besieged(scheme, LIMITS, believed) as made:
        network, links, heard = made.network_of("latecomer"), [], []
        for _ in range(3 * CAP):
            link = await network.connect(made.address)
            links.append(link)
            heard.append(Recorder())
            link.start(heard[-1])
        while sum(bool(one.lost_with) for one in heard) < 2 * CAP:
            await asyncio.sleep(0.005)
        async with made.site("latecomer"):
            assert "latecomer" in made.server.sites
        assert [bool(one.lost_with) for one in heard[-CAP // 2 :]] == [False] * (CAP // 2)
        for link in links:
            link.abort()
