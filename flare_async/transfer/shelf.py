"""The owner's side of a transfer: tensors on offer, by reference, for as long as a block lasts."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Collection, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from flare_async.errors import FlareError, RemoteProtocolError, TransferError
from flare_async.limits import MIB, Limits
from flare_async.net.callbacks import start_soon
from flare_async.net.channel import Channel
from flare_async.net.session import Session
from flare_async.ports import Clock, Random
from flare_async.transfer.digest import tensor_digest
from flare_async.transfer.feed import Feed
from flare_async.transfer.offer import HASH_STEP, HASHING, Offer
from flare_async.transfer.pull import (
    PULL_SCHEMA,
    PULL_TOPIC,
    DigestRequest,
    Printed,
    Prints,
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
TOLD = 1024  # digests that are sent together: 32 KiB
TOMBSTONE_SECONDS = 60.0
TOMBSTONES = 1024


class Shelf:
    """Serves pulls from the memory of what is offered; nothing is copied, nobody is waited for.

    A pull is answered on the reading path: the tensor's own memory is queued by reference and the
    reader's credit draws it. Each reader has its own channel, so a slow one delays nobody.
    """

    def __init__(
        self,
        owner: str,
        tasks: TaskGroup,
        clock: Clock,
        random: Random,
        limits: Limits,
        *,
        prints: Prints | None = None,
    ) -> None:
        self.owner = owner
        self._tasks = tasks
        self._clock = clock
        self._random = random
        self._limits = limits
        self._offers: dict[str, Offer] = {}
        self._prints = prints or Prints()
        self._printed: Printed | None = None
        self._gone: OrderedDict[str, float] = OrderedDict()
        self._feeds: Counter[str] = Counter()
        self._turns = asyncio.Semaphore(HASHING)

    @property
    def offers(self) -> int:
        """How many offers there are now."""
        return len(self._offers)

    def attach(self, session: Session) -> None:
        """Answer the pulls of this session's peer."""
        session.serve(PULL_TOPIC, self.answer)

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

        Raises:
            TensorFormatError: there are more tensors than a manifest can list.
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
        digests: Mapping[str, bytes] | None = None,
    ) -> Offer:
        """Offer tensors until ``withdraw``; ``offer`` is the safe form of this pair.

        ``digests`` are blake3 digests that are known already, of any of the tensors: they are not
        computed again, and what is read from now on must have them.

        Raises:
            TensorFormatError: there are more tensors than a manifest can list.
        """
        source = source_of(tensors)
        layout = self._printed
        if layout is None or not layout.shows(source.specs, source.aliases):
            layout = self._printed = self._prints.of(source.specs, source.aliases)
        key = self._random.token(16).hex()
        ref = TensorRef(self.owner, key, version, layout.digest, layout.nbytes)
        allowed = None if readers is None else frozenset(readers)
        offer = Offer(ref, source, layout.data, layout.sizes, allowed, turns=self._turns)
        self._offers[key] = offer
        if digests:
            offer.digests.update(digests)
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
        offer.close()

    def answer(self, channel: Channel) -> None:
        """Answer one pull, or reset it; on the reading path."""
        try:
            request = PULL_SCHEMA.decode(channel.header, self._limits)
        except RemoteProtocolError as exc:
            channel.reset(ResetCode.PROTOCOL, exc.reason)
            return
        offer = self._find(channel, request.key)
        if offer is None:
            return
        try:
            if isinstance(request, DigestRequest):
                self._tell(channel, offer, request.tensor)
            elif request.tensor:
                self._serve(channel, offer, request)
            else:
                channel.send_last(offer.layout)
        except TransferError:
            channel.reset(ResetCode.NOT_FOUND, "no such tensor or range")

    def _find(self, channel: Channel, key: str) -> Offer | None:
        offer = self._offers.get(key)
        if offer is None or (offer.readers is not None and channel.peer not in offer.readers):
            # Whoever may not read learns no more than whoever guesses.
            known = offer is None and key in self._gone
            code = ResetCode.GONE if known else ResetCode.NOT_FOUND
            channel.reset(code, "the offer has ended" if known else "no such offer")
            return None
        return offer

    def _opened(self, channel: Channel, offer: Offer) -> None:
        offer.channels[channel] = None
        channel.on_over = partial(offer.over, max_resends=self._limits.max_resends)

    def _serve(self, channel: Channel, offer: Offer, request: PullRequest) -> None:
        name, source = request.tensor, offer.source
        size = offer.sizes.get(name, -1)
        if not 0 <= request.start <= request.stop <= size:
            raise TransferError(f"{channel.peer} asks for {name!r} {request.start}-{request.stop}")
        offer.served[channel.peer] += request.stop - request.start
        self._opened(channel, offer)
        if not isinstance(source, MemorySource) or self._random.buggify("fed from memory"):
            feed = Feed(channel, offer, request, self._feeds)
            start_soon(self._tasks, feed.run, self._end, name="feed a pull")
            return
        part = source.tensors[name][request.start : request.stop]
        if channel.session.link.by_reference:
            channel.send_last(part)  # what was never copied needs no digest
            return
        hash_short(offer, name)
        if offer.knows(name):
            channel.send_last(part, offer.digests[name])
        else:
            channel.send_soon(part)
            self._end(channel, offer, name)

    def _end(self, channel: Channel, offer: Offer, name: str) -> None:
        """End a channel with its tensor's digest, at once or when that is known."""
        if channel.session.link.by_reference:
            channel.end()  # what was never copied needs no digest
        elif offer.knows(name):  # the usual case makes no waiter
            channel.end(offer.digests[name])
        else:
            offer.when_hashed(name, partial(end_hashed, channel, offer, name), self._tasks)

    def _tell(self, channel: Channel, offer: Offer, name: str) -> None:
        if name and name not in offer.sizes:
            raise TransferError(f"{channel.peer} asks for the digests of {name!r}")
        self._opened(channel, offer)
        tell = self._tell_chunks(channel, offer, name) if name else self._tell_all(channel, offer)
        start_soon(self._tasks, quietly, tell, channel, name="tell digests")

    async def _tell_chunks(self, channel: Channel, offer: Offer, name: str) -> None:
        chunks = await offer.hashed(name, self._tasks, chunks=True)
        if chunks is None:
            raise TransferError(f"tensor {name!r}: cannot be hashed")
        if chunks:
            await channel.send(chunks)
        channel.end(offer.digests[name])

    async def _tell_all(self, channel: Channel, offer: Offer) -> None:
        told: list[bytes] = []
        for name in offer.sizes:
            if not offer.knows(name):
                await asyncio.sleep(0)  # so that many short tensors do not hold the loop up
                hash_short(offer, name)
            if len(told) == TOLD or (told and not offer.knows(name)):
                await channel.send(b"".join(told))  # before a long one is hashed: something moves
                told.clear()
            digest = await offer.hashed(name, self._tasks)
            if digest is None:
                raise TransferError(f"tensor {name!r}: cannot be hashed")
            told.append(digest)
        await channel.send(b"".join(told))
        channel.end()


def source_of(tensors: TensorSet | TensorSource) -> TensorSource:
    """Return what reads tensors, in the longest pieces that are hashed at once."""
    return MemorySource(tensors, chunk=HASH_STEP) if isinstance(tensors, TensorSet) else tensors


def hash_short(offer: Offer, name: str) -> None:
    """Make the digest of a short tensor in memory, if it is not known, which costs no thread."""
    source, short = offer.source, offer.sizes[name] <= INLINE_DIGEST
    if short and isinstance(source, MemorySource) and not offer.knows(name):
        offer.digests[name] = tensor_digest(source.tensors[name])


def end_hashed(channel: Channel, offer: Offer, name: str) -> None:
    """End a channel with a digest that was waited for."""
    if channel.failed is not None:
        return
    if offer.knows(name):
        channel.end(offer.digests[name])
    else:
        channel.reset(ResetCode.INTERNAL, "the source failed")


async def quietly(work: Coroutine[None, None, None], channel: Channel) -> None:
    """Do what one reader asked for: its end, or the source's, is nobody else's trouble."""
    try:
        await work
    except (FlareError, OSError):
        channel.reset(ResetCode.INTERNAL, "the source failed")
