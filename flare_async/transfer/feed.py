"""Feeds one pull from a source that is not memory, as fast as its reader's credit allows."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from flare_async.errors import FlareError, TransferError
from flare_async.limits import KIB, MIB
from flare_async.net.channel import Channel
from flare_async.transfer.digest import DigestBuilder
from flare_async.transfer.offer import Offer
from flare_async.transfer.pull import PullRequest
from flare_async.transfer.source import StoredSource, TensorSource
from flare_async.wire.frames import ResetCode

__all__ = ["Feed"]

_LEAST: Final = 64 * KIB  # of a piece: below, its thread costs more than its bytes


@dataclass(slots=True, eq=False)
class Feed:
    """One range on its way; a tensor that is read whole is hashed on the way as well.

    ``feeds`` counts what is under way, by peer: what is in memory for a peer, besides what the link
    holds, is ``link_bytes`` divided by them, however many ranges it asks for and never takes.
    """

    channel: Channel
    offer: Offer
    request: PullRequest
    feeds: Counter[str]
    built: DigestBuilder | None = None

    def __post_init__(self) -> None:
        self.feeds[self.channel.peer] += 1  # now: those that are asked for together share at once

    async def run(self, end: Callable[[Channel, Offer, str], None]) -> None:
        """Send the range and ``end`` the channel.

        Waits for the reader's credit. Whoever reads is alone with what goes wrong: its channel is
        reset, and nothing is raised.
        """
        offer, name = self.offer, self.request.tensor
        whole = (self.request.start, self.request.stop) == (0, offer.sizes[name])
        if whole and not offer.knows(name) and not self.channel.session.link.by_reference:
            self.built = DigestBuilder()
        try:
            await self._send(offer.source)
            if self.built is not None:
                offer.note(name, self.built)
            end(self.channel, offer, name)
        except (FlareError, OSError):
            self.channel.reset(ResetCode.INTERNAL, "the source failed")
        finally:
            self._leave()

    async def _send(self, source: TensorSource) -> None:
        if isinstance(source, StoredSource):
            await self._send_stored(source)
        else:
            await self._send_chunks(source)

    async def _send_stored(self, source: StoredSource) -> None:
        at, stop = self.request.start, self.request.stop
        while at < stop:
            nbytes = min(self._share(), stop - at)
            data = await asyncio.to_thread(self._read, source, at, nbytes)
            await self.channel.send(data)
            at += nbytes

    async def _send_chunks(self, source: TensorSource) -> None:
        left = self.request.stop - self.request.start
        chunks = source.chunks(self.request.tensor, self.request.start)
        while left > 0:
            chunk = next(chunks, None)
            if chunk is None:
                raise TransferError(f"tensor {self.request.tensor!r}: ends {left} bytes early")
            if self.built is not None:
                self.built.update(chunk)
            part = bytes(chunk[:left])  # a chunk is valid until the next one
            await self.channel.send(part)
            await asyncio.sleep(0)  # where there is credit for all of it, sending never waits
            left -= len(part)

    def _share(self) -> int:
        channel = self.channel
        share = channel.session.limits.link_bytes // self.feeds[channel.peer]
        return max(_LEAST, min(MIB, share))

    def _read(self, source: StoredSource, start: int, nbytes: int) -> bytes:
        data = source.piece(self.request.tensor, start, nbytes)
        if self.built is not None:
            self.built.update(data)
        return data

    def _leave(self) -> None:
        peer = self.channel.peer
        self.feeds[peer] -= 1
        if not self.feeds[peer]:
            del self.feeds[peer]
