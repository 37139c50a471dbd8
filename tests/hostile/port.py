"""A server on a real socket with one honest site in the middle of a pull, and a raw peer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import anyio
import structlog

from flare_async.errors import RemoteProtocolError
from flare_async.limits import KIB, Limits
from flare_async.net.channel import Channel
from flare_async.net.clock import LoopClock
from flare_async.net.registry import Transports
from flare_async.net.rng import SeededRandom
from flare_async.net.session import Session
from flare_async.roles.context import open_context
from flare_async.roles.server import Server
from flare_async.transfer.pull import PULL_SCHEMA, PULL_TOPIC, PullRequest
from flare_async.transfer.tensors import TensorSet
from flare_async.wire.codec import Decoder
from flare_async.wire.frames import Goodbye, Hello
from flare_async.wire.session import OpenOptions, Side
from tests.transfer.pulling import big

__all__ = ["Port", "Raw", "guarded", "hello"]

BOUND = 10.0  # seconds until a test that hangs fails


def hello(peer: str = "site-2", version: int = 1, role: str = "client") -> Hello:
    """Return the Hello of a site."""
    return Hello(version, peer, b"0123456789abcdef", 0, b"", role, 65_536, 2**20)


@dataclass
class Port:
    """A server under attack; ``logs`` are the events of all, ``pull`` is the honest site's."""

    server: Server
    address: str
    tensors: TensorSet
    pull: Channel
    logs: list[dict[str, object]] = field(default_factory=list)
    got: int = 0

    @asynccontextmanager
    async def raw(self) -> AsyncIterator[Raw]:
        """Connect a peer that speaks bytes."""
        place = urlsplit(self.address)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        try:
            yield Raw(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def attack(self, data: bytes) -> list[object]:
        """Send bytes on a connection of its own; return the frames of the answer."""
        before = len(self.logs)
        async with self.raw() as peer:
            peer.send(data)
            answer = await peer.answer()
        await self.until(lambda: len(self.logs) > before)
        return answer

    async def step(self) -> None:
        """Let the honest site's pull go on by at least a byte."""
        self.got += len(await self.pull.receive())

    async def finish(self) -> bytes:
        """Read the rest of the honest pull; return how many bytes came in all."""
        async for chunk in self.pull:
            self.got += len(chunk)
        return self.got

    async def until(self, fulfilled: Callable[[], bool]) -> None:
        """Turn the loop until something holds; bounded by the block's own bound."""
        while not fulfilled():
            await asyncio.sleep(0)


@dataclass
class Raw:
    """One connection, in bytes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        """Write."""
        self.writer.write(data)

    async def answer(self) -> list[object]:
        """Read to the end; return the frames."""
        data = b""
        with suppress(ConnectionError):
            while chunk := await self.reader.read(KIB):
                data += chunk
        frames: list[object] = []
        with suppress(RemoteProtocolError):
            frames += Decoder(limits=Limits()).feed(data)
        return frames


def reasons(frames: list[object]) -> list[str]:
    """Return the messages of the Goodbyes among frames."""
    return [frame.message for frame in frames if isinstance(frame, Goodbye)]


@asynccontextmanager
async def guarded(limits: Limits | None = None) -> AsyncIterator[Port]:
    """Yield the server while an honest site is in its pull; the pull must end well."""
    limits = limits or Limits()
    network = Transports(limits)
    with anyio.fail_after(BOUND), structlog.testing.capture_logs() as logs:
        async with open_context(LoopClock(), SeededRandom(5), network, limits) as context:
            server = Server(context)
            async with server.listen("tcp://127.0.0.1:0") as address:
                link = await network.connect(address)
                async with Session(
                    link, Side.CONNECTOR, context.endpoint("site-1", "client")
                ) as me:
                    tensors = big(12)
                    ref = server.shelf.put(tensors, readers=["site-1"]).ref
                    request = PULL_SCHEMA.encode(PullRequest(ref.key, "big", 0, tensors.nbytes))
                    pull = me.open(PULL_TOPIC, request, OpenOptions(end=True))
                    port = Port(server, address, tensors, pull, logs)
                    await port.step()
                    yield port
                    assert await port.finish() == tensors.nbytes
                    assert server.sites["site-1"].error is None
