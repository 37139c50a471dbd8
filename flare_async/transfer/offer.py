"""One thing on a shelf: what it is, who has read how much of it, and its digests."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from flare_async.errors import AckStalled, BelowMinRate, FlareError
from flare_async.limits import MIB
from flare_async.net.callbacks import start_soon
from flare_async.net.channel import Channel
from flare_async.ports import Timer
from flare_async.transfer.digest import DigestBuilder, TensorHasher, tensor_hasher
from flare_async.transfer.pull import TensorRef
from flare_async.transfer.source import TensorSource

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

__all__ = ["HASHING", "HASH_STEP", "Offer"]

HASHING: Final = 2  # tensors at a time: the process has few threads, and others need them
HASH_STEP: Final = 32 * MIB  # bytes that one call in a thread hashes; then others have their turn

Waiter: TypeAlias = "Callable[[], None]"


@dataclass(slots=True, eq=False)
class Offer:
    """One thing on the shelf; ``served`` counts the bytes that were asked for, by peer.

    ``sizes`` are the bytes of the tensors that can be pulled. ``digests`` and ``chunked`` (the
    digests of a tensor's chunks) are filled when somebody needs them. ``hashing`` is who waits for
    which: one computes it, whoever else asks joins, a few at a time by ``turns``, which the offers
    of a shelf share. ``watchers`` are told, by peer, when it is too
    slow or has stalled too often to be served.
    """

    ref: TensorRef
    source: TensorSource
    layout: bytes
    sizes: Mapping[str, int]
    readers: frozenset[str] | None
    digests: dict[str, bytes] = field(default_factory=dict)
    chunked: dict[str, bytes] = field(default_factory=dict)
    hashing: dict[tuple[str, bool], list[Waiter]] = field(default_factory=dict)
    channels: dict[Channel, None] = field(default_factory=dict)
    served: defaultdict[str, int] = field(default_factory=partial(defaultdict, int))
    stalls: defaultdict[str, int] = field(default_factory=partial(defaultdict, int))
    watchers: dict[str, Callable[[FlareError], None]] = field(default_factory=dict)
    timers: dict[str, Timer] = field(default_factory=dict)
    turns: asyncio.Semaphore = field(default_factory=partial(asyncio.Semaphore, HASHING))
    carried: bytes | None = None  # the digest of all tensors as one row
    row: memoryview | None = None  # a copy of the row, where tensors are too tiny for frames
    closed: bool = False

    def over(self, channel: Channel, max_resends: int) -> None:
        """Take note that a pull has ended, and of why."""
        self.channels.pop(channel, None)
        peer, error = channel.peer, channel.failed
        if isinstance(error, AckStalled):
            self.stalls[peer] += 1
            if self.stalls[peer] <= max_resends:
                self._expect_another(channel, error)
                return
        if isinstance(error, AckStalled | BelowMinRate):
            self._tell(peer, error)

    def close(self) -> None:
        """Expect nobody any more, and hash nothing more."""
        self.closed = True
        for timer in self.timers.values():
            timer.cancel()
        self.timers.clear()
        self.channels.clear()

    def _expect_another(self, channel: Channel, error: AckStalled) -> None:
        # A reader that is alive asks again; one that has stopped reading never hears of the reset.
        peer, session, asked = channel.peer, channel.session, self.served.get(channel.peer, 0)
        if peer not in self.watchers or peer in self.timers:
            return

        def missing() -> None:
            self.timers.pop(peer, None)
            if self.served.get(peer, 0) == asked:
                self._tell(peer, error)

        due = session.clock.now() + session.limits.stall_timeout
        self.timers[peer] = session.clock.call_at(due, missing)

    def _tell(self, peer: str, error: FlareError) -> None:
        watcher = self.watchers.pop(peer, None)
        if watcher is not None:
            watcher(error)

    def knows(self, name: str, *, chunks: bool = False) -> bool:
        """Whether a tensor's digest, or those of its chunks, are known."""
        return name in (self.chunked if chunks else self.digests)

    def when_hashed(
        self, name: str, waiter: Waiter, tasks: TaskGroup, *, chunks: bool = False
    ) -> None:
        """Call ``waiter`` when a digest is known, or cannot be had: ``knows`` then tells which."""
        if self.knows(name, chunks=chunks):
            waiter()
            return
        waiting = self.hashing.setdefault((name, chunks), [])
        waiting.append(waiter)
        if len(waiting) == 1:
            start_soon(tasks, self._hash, name, chunks, name="digest")

    async def hashed(self, name: str, tasks: TaskGroup, *, chunks: bool = False) -> bytes | None:
        """Return a tensor's digest, or those of its chunks; None if the source fails.

        Waits for its turn and for a thread that reads the tensor. Cancelling leaves it to the
        others who wait.
        """
        if not self.knows(name, chunks=chunks):
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            def wake() -> None:
                if not future.done():
                    future.set_result(None)

            self.when_hashed(name, wake, tasks, chunks=chunks)
            await future
        return (self.chunked if chunks else self.digests).get(name)

    def note(self, name: str, built: DigestBuilder) -> None:
        """Keep the digests of a tensor that was read whole for another reason."""
        self.digests.setdefault(name, built.digest())
        self.chunked.setdefault(name, built.chunks())

    async def _hash(self, name: str, chunks: bool) -> None:
        built = DigestBuilder() if chunks else tensor_hasher()
        try:
            async with self.turns:
                pieces = self.source.chunks(name)
                while not self.closed and await asyncio.to_thread(hash_step, built, pieces):
                    pass
            if not self.closed:
                self._hashed(name, built)
        except (FlareError, OSError):
            pass  # whoever waits finds it unknown
        finally:
            for waiter in self.hashing.pop((name, chunks)):
                waiter()

    def _hashed(self, name: str, built: DigestBuilder | TensorHasher) -> None:
        if isinstance(built, DigestBuilder):
            self.note(name, built)
        else:
            self.digests[name] = built.digest()


def hash_step(built: DigestBuilder | TensorHasher, pieces: Iterator[memoryview]) -> bool:
    """Hash the next bytes; return whether there may be more."""
    done = 0
    for piece in pieces:
        built.update(piece)
        done += piece.nbytes
        if done >= HASH_STEP:
            return True
    return False
