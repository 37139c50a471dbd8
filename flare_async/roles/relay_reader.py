"""One pull as a caching relay answers it: chunk after chunk, each kept until acknowledged."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Final

from flare_async.net.channel import Channel
from flare_async.net.inflow import Chunk as Payload
from flare_async.roles.chunk_cache import Chunk, ChunkCache, ChunkId, wait_in, wake_all
from flare_async.transfer.digest import CHUNK
from flare_async.transfer.pull import PullRequest

__all__ = ["Pinned", "Reader"]

DEPTH: Final = 2  # chunks that wait for acknowledgement while the next one is prepared
AHEAD: Final = 2  # chunks that are fetched before they are asked for


class Pinned:
    """How many chunks one site's pulls keep in the cache; at most ``most`` of them."""

    __slots__ = ("_count", "_waiting", "most", "pulls")

    def __init__(self) -> None:
        self.most = 1
        self.pulls = 0  # that are under way
        self._count = 0
        self._waiting: list[asyncio.Future[None]] = []

    async def one_more(self) -> None:
        """Wait until one more may be kept: until one is let go, which its own progress bounds."""
        while self._count >= self.most:
            await wait_in(self._waiting)
        self._count += 1

    def one_less(self) -> None:
        """Let one go."""
        self._count -= 1
        wake_all(self._waiting)


class Reader:
    """Sends one pull's chunks; it is told of acknowledgements as the channel's ``Onward``."""

    def __init__(
        self, channel: Channel, request: PullRequest, cache: ChunkCache, pinned: Pinned
    ) -> None:
        self.channel = channel
        self.request = request
        self._cache = cache
        self._pinned = pinned
        self._held: deque[tuple[int, Chunk]] = deque()
        self._sent = 0
        self._waiting: list[asyncio.Future[None]] = []
        self.acknowledged = 0

    async def run(self, digest: bytes) -> None:
        """Send everything, and the digest as the trailer; ends when all is acknowledged.

        Waits for chunks and for acknowledgements; both are bounded by progress.

        Raises:
            FlareError: a chunk cannot be had, or the channel has failed.
        """
        for chunk_id in self._pieces():
            await self._send(chunk_id)
            while len(self._held) >= DEPTH:
                await self._progress()
        self.channel.end(digest)
        while self._held:
            await self._progress()

    def let_go(self) -> None:
        """Keep nothing in the cache any more."""
        while self._held:
            self._cache.unpin(self._held.popleft()[1])
            self._pinned.one_less()

    # For the channel

    def room(self, offset: int, length: int) -> memoryview | None:
        """Offer no memory: the site sends nothing."""
        return None

    def landed(self, offset: int, length: int) -> None:
        """Never happens: there is no room."""

    def take(self, offset: int, payload: Payload) -> None:
        """Never happens: a pull is opened with its own direction ended."""

    def ended(self, trailer: bytes) -> None:
        """Take note of the end with which the site has opened the channel."""

    def credited(self) -> None:
        """Let go of what the site has acknowledged."""
        consumed = self.channel.session.machine.acknowledged(self.channel.id)
        self.acknowledged = self._sent if consumed is None else consumed
        if not self._held or self._held[0][0] > self.acknowledged:
            return  # nobody waits for less than a chunk
        while self._held and self._held[0][0] <= self.acknowledged:
            self._cache.unpin(self._held.popleft()[1])
            self._pinned.one_less()
        wake_all(self._waiting)

    # Internals

    async def _send(self, chunk_id: ChunkId) -> None:
        await self._pinned.one_more()
        try:
            chunk = await self._cache.pin(chunk_id)
        except BaseException:
            self._pinned.one_less()
            raise
        for ahead in range(1, AHEAD + 1):
            start = chunk_id.start + ahead * CHUNK
            if start < self.request.stop:
                self._cache.expect(self._piece(start))
        skip = max(0, self.request.start - chunk_id.start)
        self._sent += chunk_id.nbytes - skip
        self._held.append((self._sent, chunk))
        if chunk.data is not None:
            self.channel.send_soon(chunk.data[skip:])

    async def _progress(self) -> None:
        if self.channel.failed is not None:
            raise self.channel.failed
        await wait_in(self._waiting)

    def _pieces(self) -> Iterator[ChunkId]:
        first = self.request.start - self.request.start % CHUNK
        if self.request.start < self.request.stop:
            yield from (self._piece(at) for at in range(first, self.request.stop, CHUNK))

    def _piece(self, start: int) -> ChunkId:
        stop = min(start + CHUNK, self.request.stop)
        return ChunkId(self.request.key, self.request.tensor, start, stop)
