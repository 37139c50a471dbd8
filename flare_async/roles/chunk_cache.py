"""Chunks of offers that a relay has pulled: each once, whoever asks for it, within a budget."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from flare_async.errors import FlareError
from flare_async.net.callbacks import start_soon
from flare_async.net.outflow import wake
from flare_async.transfer.digest import chunk_digests

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

__all__ = ["A_CHUNK", "Chunk", "ChunkCache", "ChunkId", "wait_in", "wake_all"]

A_CHUNK: Final = 1024  # bytes beside its data: most chunks of small models are small
SPARE: Final = 16  # the part of the budget that is made free at a time


@dataclass(frozen=True, slots=True)
class ChunkId:
    """Bytes ``start`` to ``stop`` of a tensor of an offer."""

    key: str
    tensor: str
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        """How many bytes that are."""
        return self.stop - self.start

    @property
    def cost(self) -> int:
        """How many bytes the cache has for it."""
        return self.nbytes + A_CHUNK


@dataclass(slots=True, eq=False)
class Chunk:
    """Memory of the cache; it stays as long as it is pinned, and is ready when it has ``data``."""

    id: ChunkId
    pins: int = 0
    reads: int = 0  # how often it was asked for
    dropped: bool = False  # nobody else gets it; its memory counts until nobody has it
    data: memoryview | None = None
    sum: bytes = b""
    error: FlareError | None = None
    waiting: list[asyncio.Future[None]] = field(default_factory=list)


Fetch: TypeAlias = Callable[[ChunkId], Awaitable[memoryview]]


class ChunkCache:
    """At most ``budget`` bytes of chunks; those go first that nobody reads, then most have had.

    Each counts with ``A_CHUNK`` bytes beside its data. ``fetch`` brings one. Whoever asks for a
    chunk that is on its way waits for it with the others; it is the cache that fetches, so it does
    not matter who of them gives up. ``fetched`` counts the bytes that were brought, ``damaged`` the
    chunks that had changed in memory.
    """

    def __init__(self, budget: int, fetch: Fetch, tasks: TaskGroup) -> None:
        self._budget = budget
        self._fetch = fetch
        self._tasks = tasks
        self._chunks: OrderedDict[ChunkId, Chunk] = OrderedDict()
        self._for_room: list[asyncio.Future[None]] = []
        self.readers: Counter[str] = Counter()  # of each offer, as their owner counts them
        self.nbytes = self.peak = self.fetched = self.damaged = 0

    async def pin(self, chunk_id: ChunkId) -> Chunk:
        """Return a chunk that is ready; ``unpin`` it when its bytes are needed no more.

        Waits for the fetch, which is bounded itself, and for room. Cancelling leaves the chunk to
        the others.

        Raises:
            FlareError: it could not be fetched.
        """
        while True:
            chunk = self._begin(chunk_id)
            if chunk is None:
                await wait_in(self._for_room)
                continue
            chunk.pins += 1
            chunk.reads += 1
            try:
                await self._ready(chunk)
            except BaseException:
                self.unpin(chunk)
                raise
            if self._is_sound(chunk):
                return chunk
            self.unpin(chunk)

    def unpin(self, chunk: Chunk) -> None:
        """Let go of a chunk."""
        chunk.pins -= 1
        if not chunk.pins:
            if chunk.dropped:
                self.nbytes -= chunk.id.cost
            self._room_made()

    def expect(self, chunk_id: ChunkId) -> None:
        """Fetch a chunk that somebody will ask for soon, if there is room."""
        self._begin(chunk_id)

    def forget(self, wanted: Callable[[ChunkId], bool]) -> None:
        """Drop chunks; who has them pinned keeps them, and they count until then."""
        for chunk_id in [one for one in self._chunks if wanted(one)]:
            if self._chunks[chunk_id].data is not None:
                self._drop(chunk_id)

    async def _ready(self, chunk: Chunk) -> None:
        while chunk.data is None:
            if chunk.error is not None:
                raise chunk.error
            await wait_in(chunk.waiting)

    def _begin(self, chunk_id: ChunkId) -> Chunk | None:
        """Return the chunk, on its way at least; None if there is no room for it now."""
        chunk = self._chunks.get(chunk_id)
        if chunk is not None:
            self._chunks.move_to_end(chunk_id)
            return chunk
        if not self._make_room(chunk_id.cost):
            return None
        chunk = self._chunks[chunk_id] = Chunk(chunk_id)
        self.nbytes += chunk_id.cost
        self.peak = max(self.peak, self.nbytes)
        start_soon(self._tasks, self._bring, chunk, name="fetch a chunk")
        return chunk

    def _make_room(self, nbytes: int) -> bool:
        if self.nbytes + nbytes <= self._budget:
            return True
        idle = [one for one in self._chunks.values() if not one.pins and one.data is not None]
        for chunk in idle:
            # Some more than is needed of what nobody reads, so that not every chunk has to look.
            if self.nbytes + nbytes <= self._budget - self._budget // SPARE:
                return True
            if not self.readers[chunk.id.key]:
                self._drop(chunk.id)
        # Of the others those that most have read: who is behind needs the same chunks again, and
        # so does who comes first.
        for chunk in sorted(idle, key=lambda one: -one.reads):
            if self.nbytes + nbytes <= self._budget:
                return True
            if not chunk.dropped:
                self._drop(chunk.id)
        return self.nbytes + nbytes <= self._budget

    async def _bring(self, chunk: Chunk) -> None:
        try:
            chunk.data = await self._fetch(chunk.id)
            chunk.sum = chunk_digests(chunk.data)
            self.fetched += chunk.id.nbytes
        except FlareError as exc:
            chunk.error = exc
            self._drop(chunk.id)
        wake_all(chunk.waiting)
        self._room_made()

    def _is_sound(self, chunk: Chunk) -> bool:
        if chunk.data is not None and chunk_digests(chunk.data) == chunk.sum:
            return True
        self.damaged += 1
        if self._chunks.get(chunk.id) is chunk:
            self._drop(chunk.id)
        return False

    def _drop(self, chunk_id: ChunkId) -> None:
        chunk = self._chunks.pop(chunk_id)
        chunk.dropped = True
        if not chunk.pins:
            self.nbytes -= chunk_id.cost

    def _room_made(self) -> None:
        if self._for_room:
            wake_all(self._for_room)


async def wait_in(queue: list[asyncio.Future[None]]) -> None:
    """Wait until everybody in a queue is woken."""
    future = asyncio.get_running_loop().create_future()
    queue.append(future)
    await future


def wake_all(queue: list[asyncio.Future[None]]) -> None:
    """Let everybody in a queue look again."""
    waiting = list(queue)
    queue.clear()
    for future in waiting:
        wake(future)
