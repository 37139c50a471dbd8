"""What a caching relay itself asks its parent for: chunks, and whether an offer still stands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio
import numpy as np

from flare_async.errors import AckStalled, ChannelReset, LinkLost
from flare_async.limits import Limits
from flare_async.net.backoff import Backoff
from flare_async.net.session import Session
from flare_async.ports import Random
from flare_async.roles.chunk_cache import ChunkId
from flare_async.transfer.pull import PULL_SCHEMA, PULL_TOPIC, PullRequest
from flare_async.wire.frames import ResetCode
from flare_async.wire.session import OpenOptions

__all__ = ["ParentPulls"]

FIRST_PAUSE = 0.5  # seconds before a try after a stall, at most; it doubles


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
        view = np.empty(chunk_id.nbytes, np.uint8).data
        await self._pull(chunk_id, view)
        return view

    async def digest(self, key: str, tensor: str) -> bytes:
        """Return the closing trailer of a tensor, which says that its offer stands.

        Waits and raises as ``chunk`` does.
        """
        return await self._pull(ChunkId(key, tensor, 0, 0), memoryview(bytearray()))

    async def _pull(self, wanted: ChunkId, view: memoryview) -> bytes:
        backoff = Backoff(self._random, "pull", self._limits.retry_cap, FIRST_PAUSE)
        while True:
            try:
                async with self._room:
                    return await self._once(wanted, view)
            except (AckStalled, ChannelReset) as exc:
                code = exc.reset_code if isinstance(exc, ChannelReset) else ResetCode.STALLED
                if code != ResetCode.STALLED or backoff.tries >= self._limits.max_resends:
                    raise
            await anyio.sleep(backoff.pause())

    async def _once(self, wanted: ChunkId, view: memoryview) -> bytes:
        parent = self._parent()
        if parent is None:
            raise LinkLost("parent", "the relay has no parent now")
        request = PullRequest(wanted.key, wanted.tensor, wanted.start, wanted.stop)
        options = OpenOptions(end=True, leased=True)
        channel = parent.open(PULL_TOPIC, PULL_SCHEMA.encode(request), options)
        have = 0

        def landed(offset: int, length: int) -> None:
            nonlocal have
            have = offset + length

        channel.lease(view, landed)
        try:
            trailer = await channel.landed()
        finally:
            channel.reset(ResetCode.CANCELLED, "not needed any more")
        if have != len(view):
            problem = f"{have} of {len(view)} bytes of {wanted.tensor!r} came"
            raise ChannelReset(parent.peer, PULL_TOPIC, ResetCode.PROTOCOL, problem)
        return trailer
