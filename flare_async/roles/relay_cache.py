"""A relay that answers pulls itself: its parent gives each chunk once for all below it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import anyio

from flare_async.errors import AckStalled, FlareError
from flare_async.net.callbacks import start_soon
from flare_async.net.channel import Channel
from flare_async.net.session import Session
from flare_async.net.splice import reset_of
from flare_async.roles.chunk_cache import A_CHUNK, ChunkCache, ChunkId
from flare_async.roles.context import Context
from flare_async.roles.parent_pulls import ParentPulls
from flare_async.roles.passing import pull_request
from flare_async.roles.relay_reader import Pinned, Reader
from flare_async.roles.relay_upward import Upward
from flare_async.roles.single_flight import SingleFlight
from flare_async.transfer.digest import CHUNK
from flare_async.transfer.pull import PullRequest

__all__ = ["CachedPulls"]

REMEMBERED: Final = 4096  # tensors that were given to a site, to notice one that asks again


class CachedPulls:
    """Answers pulls of tensors from the cache; all others go to the parent.

    Before a pull is answered the parent confirms that its offer stands, so nothing is given that
    the parent would not give. A site that asks again for bytes that it has acknowledged does not
    believe them: it gets the parent's own, and the cache forgets its copies.
    """

    def __init__(self, context: Context, upward: Upward, budget: int) -> None:
        self._context = context
        self._upward = upward
        self._chunks = max(1, budget // (CHUNK + A_CHUNK))
        pulls = ParentPulls(lambda: upward.parent, context.random, context.limits)
        self.cache = ChunkCache(budget, pulls.chunk, context.tasks)
        self._standing = SingleFlight[tuple[str, str], bytes](
            lambda at: pulls.digest(*at), context.tasks
        )
        self._given: OrderedDict[tuple[bytes, str, str], int] = OrderedDict()
        self._pinned: dict[bytes, Pinned] = {}

    def pull(self, channel: Channel) -> None:
        """Answer a pull, or pass it on."""
        request = pull_request(channel, self._context.limits)
        parent = self._upward.parent
        if request is None:
            return
        if (
            not isinstance(request, PullRequest)
            or not request.tensor
            or parent is None
            or parent.link.by_reference
            or self._is_doubted(channel.session.id, request)
        ):
            self._upward.pull(channel)
        else:
            start_soon(self._context.tasks, self._begin, channel, request, name="answer a pull")

    async def _begin(self, channel: Channel, request: PullRequest) -> None:
        with self._pins(channel.session) as pinned:
            await self._answer(Reader(channel, request, self.cache, pinned))

    async def _answer(self, reader: Reader) -> None:
        channel, request = reader.channel, reader.request
        with anyio.CancelScope() as scope:
            channel.on_failed = scope.cancel
            if not channel.is_open:
                return
            channel.pass_to(reader)
            self.cache.readers[request.key] += 1
            try:
                digest = await self._standing.get((request.key, request.tensor))
                await reader.run(digest)
            except FlareError as exc:
                channel.reset(*reset_of(exc))
            finally:
                reader.let_go()
                self._leave(request.key)
                channel.pass_nowhere()
                self._remember(channel.session.id, request, reader.acknowledged)
        if channel.failed is None:
            self._upward.readers.took(channel.peer)
        elif isinstance(channel.failed, AckStalled):
            self._upward.readers.stalled(channel.peer, channel.failed)

    def _leave(self, key: str) -> None:
        readers = self.cache.readers
        readers[key] -= 1
        if not readers[key]:
            del readers[key]

    @contextmanager
    def _pins(self, session: Session) -> Iterator[Pinned]:
        """Yield what all pulls of a session share; it goes with the last of them."""
        pinned = self._pinned.setdefault(session.id, Pinned())
        directory = self._upward.directory
        weight, count = directory.weight(session), max(1, len(directory.sites))
        # Half of the cache is divided among the sites: one that stalls keeps no more than its part.
        pinned.most = max(1, self._chunks * weight // (2 * count))
        pinned.pulls += 1
        try:
            yield pinned
        finally:
            pinned.pulls -= 1
            if not pinned.pulls:
                del self._pinned[session.id]

    def _is_doubted(self, session: bytes, request: PullRequest) -> bool:
        given = self._given.get((session, request.key, request.tensor), 0)
        if request.start >= given or request.start == request.stop:
            return False

        def overlaps(one: ChunkId) -> bool:
            same = (one.key, one.tensor) == (request.key, request.tensor)
            return same and one.start < request.stop and request.start < one.stop

        self.cache.forget(overlaps)
        return True

    def _remember(self, session: bytes, request: PullRequest, acknowledged: int) -> None:
        at = session, request.key, request.tensor
        upto = request.start + acknowledged
        self._given[at] = max(self._given.pop(at, 0), upto)
        if len(self._given) > REMEMBERED:
            self._given.popitem(last=False)
