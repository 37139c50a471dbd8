"""Feeds one pull from a source that is not memory, as fast as its reader's credit allows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flare_async.errors import FlareError, TransferError
from flare_async.net.channel import Channel
from flare_async.transfer.digest import DigestBuilder
from flare_async.transfer.offer import Offer
from flare_async.transfer.pull import PullRequest
from flare_async.transfer.source import is_stored
from flare_async.wire.frames import ResetCode

__all__ = ["Feed"]


@dataclass(slots=True, eq=False)
class Feed:
    """One range on its way; a tensor that is read whole is hashed on the way as well."""

    channel: Channel
    offer: Offer
    request: PullRequest
    built: DigestBuilder | None = None

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
            await self._send()
            if self.built is not None:
                offer.note(name, self.built)
            end(self.channel, offer, name)
        except (FlareError, OSError):
            self.channel.reset(ResetCode.INTERNAL, "the source failed")

    async def _send(self) -> None:
        source, left = self.offer.source, self.request.stop - self.request.start
        chunks = source.chunks(self.request.tensor, self.request.start)
        stored = is_stored(source)
        while left > 0:
            if stored:
                chunk = await asyncio.to_thread(self._next, chunks)
            else:
                chunk = self._next(chunks)
            if chunk is None:
                raise TransferError(f"tensor {self.request.tensor!r}: ends {left} bytes early")
            part = chunk[:left]
            # A chunk is valid until the next one, unless nobody can write to its memory.
            await self.channel.send(part if isinstance(chunk.obj, bytes) else bytes(part))
            left -= len(part)

    def _next(self, chunks: Iterator[memoryview]) -> memoryview | None:
        chunk = next(chunks, None)
        if chunk is not None and self.built is not None:
            self.built.update(chunk)
        return chunk
