"""The owner's side of a transfer: tensors on offer, by reference, for as long as a block lasts."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from flare_async.errors import (
    AckStalled,
    BelowMinRate,
    FlareError,
    RemoteProtocolError,
    TransferError,
)
from flare_async.limits import MIB, Limits
from flare_async.net.channel import Channel
from flare_async.net.session import Session
from flare_async.ports import Clock, Random
from flare_async.transfer.digest import tensor_digest, tensor_hasher
from flare_async.transfer.pull import (
    PULL_SCHEMA,
    PULL_TOPIC,
    Printed,
    PullRequest,
    TensorRef,
)
from flare_async.transfer.source import MemorySource, TensorSource
from flare_async.transfer.tensors import TensorSet
from flare_async.wire.frames import ResetCode

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

__all__ = ["Offer", "Shelf"]

INLINE_DIGEST = 1 * MIB  # what is hashed on the loop takes at most 0.2 ms
TOMBSTONE_SECONDS = 60.0
TOMBSTONES = 1024


@dataclass(slots=True, eq=False)
class Offer:
    """One thing on the shelf; ``served`` counts the bytes that were asked for, by peer.

    ``sizes`` are the bytes of the tensors that can be pulled. ``hashing`` are the channels that end
    as soon as their tensor's digest is known: one computes it, whoever else asks joins.
    ``watchers`` are told, by peer, when it is too slow or has stalled too often to be served.
    """

    ref: TensorRef
    source: TensorSource
    layout: bytes
    sizes: Mapping[str, int]
    readers: frozenset[str] | None
    digests: dict[str, bytes] = field(default_factory=dict)
    hashing: dict[str, list[Channel]] = field(default_factory=dict)
    channels: set[Channel] = field(default_factory=set)
    served: Counter[str] = field(default_factory=Counter)
    stalls: Counter[str] = field(default_factory=Counter)
    watchers: dict[str, Callable[[FlareError], None]] = field(default_factory=dict)

    def over(self, channel: Channel, max_resends: int) -> None:
        """Take note that a pull has ended, and of why."""
        self.channels.discard(channel)
        peer, error = channel.peer, channel.failed
        self.stalls[peer] += isinstance(error, AckStalled)
        if isinstance(error, BelowMinRate) or self.stalls[peer] > max_resends:
            watcher = self.watchers.pop(peer, None)
            if watcher is not None and error is not None:
                watcher(error)


class Shelf:
    """Serves pulls from the memory of what is offered; nothing is copied, nobody is waited for.

    A pull is answered on the reading path: the tensor's own memory is queued by reference and the
    reader's credit draws it. Each reader has its own channel, so a slow one delays nobody.
    """

    def __init__(
        self, owner: str, tasks: TaskGroup, clock: Clock, random: Random, limits: Limits
    ) -> None:
        self._owner = owner
        self._tasks = tasks
        self._clock = clock
        self._random = random
        self._limits = limits
        self._offers: dict[str, Offer] = {}
        self._printed: Printed | None = None
        self._gone: OrderedDict[str, float] = OrderedDict()

    def attach(self, session: Session) -> None:
        """Answer the pulls of this session's peer."""
        session.serve(PULL_TOPIC, self._answer)

    @asynccontextmanager
    async def offer(
        self,
        tensors: TensorSet | TensorSource,
        *,
        version: int = 0,
        readers: Collection[str] | None = None,
    ) -> AsyncIterator[Offer]:
        """Offer tensors while the block lasts; leaving it resets whoever still reads.

        The memory must not change meanwhile. ``readers`` names the peers that may pull, None is
        everybody who has the reference.
        """
        offer = self.put(tensors, version=version, readers=readers)
        try:
            yield offer
        finally:
            self.withdraw(offer)

    def put(
        self,
        tensors: TensorSet | TensorSource,
        *,
        version: int = 0,
        readers: Collection[str] | None = None,
    ) -> Offer:
        """Offer tensors until ``withdraw``; ``offer`` is the safe form of this pair."""
        source = MemorySource(tensors, chunk=1 << 62) if isinstance(tensors, TensorSet) else tensors
        layout = self._printed
        if layout is None or not layout.shows(source.specs, source.aliases):
            layout = self._printed = Printed.of(source.specs, source.aliases)
        key = self._random.token(16).hex()
        ref = TensorRef(self._owner, key, version, layout.digest, layout.nbytes)
        allowed = None if readers is None else frozenset(readers)
        offer = self._offers[key] = Offer(ref, source, layout.data, layout.sizes, allowed)
        return offer

    def withdraw(self, offer: Offer) -> None:
        """End an offer; readers get ``gone``, also those who ask within the next minute."""
        if self._offers.pop(offer.ref.key, None) is None:
            return
        now = self._clock.now()
        self._gone[offer.ref.key] = now + TOMBSTONE_SECONDS
        while self._gone and (
            len(self._gone) > TOMBSTONES or next(iter(self._gone.values())) <= now
        ):
            self._gone.popitem(last=False)
        for channel in list(offer.channels):
            channel.reset(ResetCode.GONE, "the offer has ended")
        offer.channels.clear()

    def _answer(self, channel: Channel) -> None:
        try:
            request = PULL_SCHEMA.decode(channel.header, self._limits)
        except RemoteProtocolError as exc:
            channel.reset(ResetCode.PROTOCOL, exc.reason)
            return
        offer = self._find(channel, request)
        if offer is None:
            return
        if not request.tensor:
            channel.send_soon(offer.layout)
            channel.end()
            return
        try:
            self._serve(channel, offer, request)
        except TransferError:
            channel.reset(ResetCode.NOT_FOUND, "no such tensor or range")

    def _find(self, channel: Channel, request: PullRequest) -> Offer | None:
        offer = self._offers.get(request.key)
        if offer is None or (offer.readers is not None and channel.peer not in offer.readers):
            # Whoever may not read learns no more than whoever guesses.
            known = offer is None and request.key in self._gone
            code = ResetCode.GONE if known else ResetCode.NOT_FOUND
            channel.reset(code, "the offer has ended" if known else "no such offer")
            return None
        return offer

    def _serve(self, channel: Channel, offer: Offer, request: PullRequest) -> None:
        name, source = request.tensor, offer.source
        size = offer.sizes.get(name, -1)
        if not 0 <= request.start <= request.stop <= size:
            raise TransferError(f"{channel.peer} asks for {name!r} {request.start}-{request.stop}")
        offer.served[channel.peer] += request.stop - request.start
        offer.channels.add(channel)
        channel.on_over = partial(offer.over, max_resends=self._limits.max_resends)
        if not isinstance(source, MemorySource):
            self._tasks.start_soon(self._feed, channel, offer, request, name="feed a pull")
            return
        view = source.tensors[name]
        if request.stop > request.start:
            channel.send_soon(view[request.start : request.stop])
        if channel.session.link.by_reference:
            channel.end()  # what was never copied needs no digest
        else:
            if size <= INLINE_DIGEST and name not in offer.digests:
                offer.digests[name] = tensor_digest(view)
            self._end(channel, offer, name)

    def _end(self, channel: Channel, offer: Offer, name: str) -> None:
        """End a channel with its tensor's digest, at once or when that is known."""
        if name in offer.digests:
            channel.end(offer.digests[name])
        elif name in offer.hashing:
            offer.hashing[name].append(channel)
        else:
            offer.hashing[name] = [channel]
            self._tasks.start_soon(self._digest, offer, name, name="digest")

    async def _digest(self, offer: Offer, name: str) -> None:
        try:
            offer.digests[name] = await asyncio.to_thread(digest_of, offer.source, name)
        except (FlareError, OSError):
            for channel in offer.hashing.pop(name):
                channel.reset(ResetCode.INTERNAL, "the source failed")
            return
        for channel in offer.hashing.pop(name):
            if channel.failed is None:
                channel.end(offer.digests[name])

    async def _feed(self, channel: Channel, offer: Offer, request: PullRequest) -> None:
        # A source that is not in memory is read as the reader's credit allows, chunk by chunk.
        left = request.stop - request.start
        try:
            for chunk in offer.source.chunks(request.tensor, request.start):
                if left <= 0:
                    break
                await channel.send(bytes(chunk[:left]))
                left -= len(chunk)
            self._end(channel, offer, request.tensor)
        except (FlareError, OSError):
            # The reader has gone, or its source fails: nobody else's pull may end with it.
            channel.reset(ResetCode.INTERNAL, "the source failed")


def digest_of(source: TensorSource, name: str) -> bytes:
    """Return the digest of one tensor of a source."""
    hasher = tensor_hasher()
    for chunk in source.chunks(name):
        hasher.update(chunk)
    return hasher.digest()
