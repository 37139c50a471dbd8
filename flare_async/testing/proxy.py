"""A TCP proxy that misbehaves on purpose: for transports on real sockets, TLS included.

It stands between a client and a server, forwards bytes, counts them, and does to them what it is
told. Unlike the faults of ``SimNetwork`` it takes real time, so tests with it count and never
measure::

    async with ToxicProxy("tcp://127.0.0.1:9000") as proxy:
        proxy.reset_at([1000, 50_000])
        ...  # connect to proxy.address
        assert proxy.down.payload < 1.01 * size
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Final, Literal, Self
from urllib.parse import urlsplit

import anyio

from flare_async.errors import ConfigError
from flare_async.net.callbacks import start_soon
from flare_async.testing.proxy_connection import ProxiedConnection
from flare_async.testing.proxy_lane import Meter
from flare_async.testing.toxics import Toxics

__all__ = ["ToxicProxy"]

ProxyDirection = Literal["up", "down"]
HARMLESS: Final = Toxics()


class Rules:
    """What all connections have in common in one direction."""

    def __init__(self, seed: str) -> None:
        self.toxics = HARMLESS
        self.total = Meter()
        self.dice = random.Random(seed)
        self.resets: deque[int] = deque()
        self.struck = 0

    def room(self) -> int | None:
        """Return how many bytes may be forwarded until the next reset."""
        return max(0, self.resets[0] - self.total.forwarded) if self.resets else None

    def strike(self) -> None:
        """Count a reset."""
        self.resets.popleft()
        self.struck += 1


class ToxicProxy:
    """Forwards any number of connections to ``upstream`` while the ``async with`` block lasts.

    ``up`` and ``down`` count the bytes of all connections from and to the connecting side. The
    scheme and path of the upstream address are kept, so ``tls://`` and ``ws://`` pass as well.

    Raises:
        ConfigError: the address has no host and port.
    """

    def __init__(self, upstream: str, *, seed: int = 0) -> None:
        parts = urlsplit(upstream)
        if not parts.hostname or parts.port is None:
            raise ConfigError("upstream", upstream, "is not scheme://host:port")
        self._host, self._port = parts.hostname, parts.port
        self._scheme, self._rest = parts.scheme, upstream.partition(parts.netloc)[2]
        self._rules = {way: Rules(f"{seed}:{way}") for way in ("up", "down")}
        self._tasks = anyio.create_task_group()
        self._server: asyncio.Server | None = None
        self._live: set[ProxiedConnection] = set()
        self._none_left = asyncio.Event()
        self.connections: list[ProxiedConnection] = []
        self.refusing = False
        self.address = ""

    async def __aenter__(self) -> Self:
        """Listen on a free port of the loopback interface."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            self._accept, "127.0.0.1", 0, backlog=4096, start_serving=False
        )
        try:  # create_server would lose the socket if it were cancelled while it starts to serve
            await server.start_serving()
        except BaseException:
            server.close()
            raise
        self._server = server
        port = server.sockets[0].getsockname()[1]
        self.address = f"{self._scheme}://127.0.0.1:{port}{self._rest}"
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Close everything; waits for the sockets' ends, which need a few turns of the loop."""
        if self._server is not None:
            self._server.close()
        self._tasks.cancel_scope.cancel()
        for connection in [*self._live]:
            connection.abort()
        with anyio.CancelScope(shield=True):
            while self._live:
                self._none_left.clear()
                await self._none_left.wait()
        await self._tasks.__aexit__(kind, exc, tb)

    @property
    def up(self) -> Meter:
        """Bytes of all connections from the connecting side."""
        return self._rules["up"].total

    @property
    def down(self) -> Meter:
        """Bytes of all connections to the connecting side."""
        return self._rules["down"].total

    @property
    def resets(self) -> int:
        """How many of the resets that ``reset_at`` asked for were carried out."""
        return sum(rules.struck for rules in self._rules.values())

    @property
    def live(self) -> int:
        """How many connections are open."""
        return len(self._live)

    def set(self, toxics: Toxics, direction: Literal["up", "down", "both"] = "both") -> None:
        """Apply these toxics and no others in a direction, to connections that live as well."""
        for way, rules in self._rules.items():
            if direction in {way, "both"}:
                rules.toxics = toxics
        for connection in [*self._live]:
            connection.pump()
        if toxics.timeout is not None:
            asyncio.get_running_loop().call_later(toxics.timeout, self._time_out, toxics)

    def clear(self) -> None:
        """End all toxics; what waits is forwarded."""
        self.set(HARMLESS)

    def reset_at(self, positions: Iterable[int], direction: ProxyDirection = "down") -> None:
        """Reset the connection that forwards these bytes of the direction, counted over all.

        Exactly so many bytes are forwarded before the reset, wherever in a frame that is.

        Raises:
            ConfigError: a position has passed already.
        """
        rules = self._rules[direction]
        wanted = sorted({*rules.resets, *positions})
        if wanted and wanted[0] < rules.total.forwarded:
            raise ConfigError("positions", wanted[0], f"{rules.total.forwarded} bytes have passed")
        rules.resets = deque(wanted)

    def reset_peers(self) -> None:
        """Reset all connections that live."""
        for connection in [*self._live]:
            connection.reset()

    def hang_up(self) -> None:
        """Close all connections that live, in order."""
        for connection in [*self._live]:
            connection.hang_up()

    def _accept(self) -> asyncio.Protocol:
        connection = ProxiedConnection(self._rules["up"], self._rules["down"], self._ended)
        self._live.add(connection)
        self.connections.append(connection)
        start_soon(self._tasks, self._connect, connection)
        return connection.client

    async def _connect(self, connection: ProxiedConnection) -> None:
        try:
            if self.refusing:
                raise ConnectionRefusedError
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: connection.server, self._host, self._port)
        except OSError:
            connection.reset()

    def _ended(self, connection: ProxiedConnection) -> None:
        self._live.discard(connection)
        self._none_left.set()

    def _time_out(self, toxics: Toxics) -> None:
        if any(rules.toxics is toxics for rules in self._rules.values()):
            self.hang_up()
