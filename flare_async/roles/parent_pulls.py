"""What a caching relay itself asks its parent for: chunks, and whether an offer still stands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio
import numpy as np

from flare_async.errors import AckStalled, ChannelReset, LinkLost
from flare_async.limits import Limits
from flare_async.net.backoff import Backoff
from flare_async.net.inflow import Chunk as Payload
from flare_async.net.session import Session
from flare_async.net.zeros import is_zeros, zeros
from flare_async.ports import Random
from flare_async.roles.chunk_cache import ChunkId
from flare_async.transfer.pull import PULL_SCHEMA, PULL_TOPIC, PullRequest
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import OpenOptions

__all__ = ["ParentPulls"]

FIRST_PAUSE = 0.5  # seconds before a try after a stall, at most; it doubles


class _Memory:
    """What one chunk lands in: memory of its own, or the zero page as long as that comes."""

    __slots__ = ("_view", "_zeros", "have")

    def __init__(self, nbytes: int) -> None:
        self._view: memoryview | None = None
        self._zeros = zeros(nbytes)
        self.have = 0

    @property
    def view(self) -> memoryview:
        """What has landed."""
        return self._zeros if self._view is None else self._view

    def room(self, offset: int, length: int) -> memoryview:
        if self._view is None:
            self._view = np.empty(len(self._zeros), np.uint8).data
            self._view[:offset] = self._zeros[:offset]
        return self._view[offset : offset + length]

    def landed(self, offset: int, length: int) -> None:
        self.have = offset + length

    def take(self, offset: int, payload: Payload) -> None:
        if self._view is not None or not is_zeros(payload):
            self.room(offset, len(payload))[:] = payload
        self.have = offset + len(payload)


class ParentPulls:
    """Pulls from the parent's shelf; ``channels`` bounds how many are under way."""

    def __init__(
        self, parent: Callable[[], Session | None], random: Random, limits: Limits
    ) -> None:
        self._parent = parent
        self._random = random
        self._limits = limits
        self._room = asyncio.Semaphore(max(1, limits.channels // 2))

    async def chunk(self, chunk_id: ChunkId) -> memoryview:
        """Pull one chunk into new memory.

        Waits while bytes arrive: ``stall_timeout`` without any, ``max_resends`` times.

        Raises:
            ChannelReset: the parent does not give it, with its code.
            AckStalled: nothing arrived for too long.
            LinkError: the parent's session was lost.
        """
        memory = _Memory(chunk_id.nbytes)
        await self._pull(chunk_id, memory)
        return memory.view

    async def digest(self, key: str, tensor: str) -> bytes:
        """Return the closing trailer of a tensor, which says that its offer stands.

        Waits and raises as ``chunk`` does.
        """
        return await self._pull(ChunkId(key, tensor, 0, 0), _Memory(0))

    async def _pull(self, wanted: ChunkId, memory: _Memory) -> bytes:
        backoff = Backoff(self._random, "pull", self._limits.retry_cap, FIRST_PAUSE)
        while True:
            try:
                async with self._room:
                    return await self._once(wanted, memory)
            except (AckStalled, ChannelReset) as exc:
                code = exc.reset_code if isinstance(exc, ChannelReset) else ResetCode.STALLED
                if code != ResetCode.STALLED or backoff.tries >= self._limits.max_resends:
                    raise
            await anyio.sleep(backoff.pause())

    async def _once(self, wanted: ChunkId, memory: _Memory) -> bytes:
        parent = self._parent()
        if parent is None:
            raise LinkLost("parent", "the relay has no parent now")
        request = PullRequest(wanted.key, wanted.tensor, wanted.start, wanted.stop)
        options = OpenOptions(end=True, leased=True)
        channel = parent.open(PULL_TOPIC, PULL_SCHEMA.encode(request), options)
        memory.have = 0
        channel.lease_from(memory, wanted.nbytes)
        try:
            trailer = await channel.landed()
        finally:
            channel.reset(ResetCode.CANCELLED, "not needed any more")
        if memory.have != wanted.nbytes:
            problem = f"{memory.have} of {wanted.nbytes} bytes of {wanted.tensor!r} came"
            raise ChannelReset(parent.peer, PULL_TOPIC, ResetCode.PROTOCOL, problem)
        return trailer
