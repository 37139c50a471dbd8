"""A shelf with one offer for every session, and a reader that lands and verifies it."""

from __future__ import annotations

import numpy as np

from flare_async.limits import MIB, Limits
from flare_async.net.clock import LoopClock
from flare_async.net.rng import SeededRandom
from flare_async.transfer.downloader import Downloader
from flare_async.transfer.pull import LayoutCache, TensorRef
from flare_async.transfer.shelf import Shelf
from flare_async.transfer.sink import MemorySink
from flare_async.transfer.tensors import TensorSet

__all__ = ["ShelfOf", "fetch", "ref_of", "tensors"]

PARTS = 8
BLOCK = 4 * MIB


def tensors(nbytes: int) -> TensorSet:
    """Return several tensors of so many bytes in all: tiles of random bytes, each its own."""
    dice = np.random.default_rng(5)
    arrays = {}
    for number in range(PARTS):
        tile = dice.integers(0, 255, min(BLOCK, nbytes // PARTS), dtype=np.uint8)
        whole = np.resize(tile, nbytes // PARTS)
        whole[:: 64 * 1024] = np.arange(len(whole[:: 64 * 1024]), dtype=np.uint8) + number
        arrays[f"part {number}"] = whole
    return TensorSet.from_params(arrays)


class ShelfOf:
    """Offers tensors to every session that comes."""

    def __init__(self, source: TensorSet, limits: Limits) -> None:
        self._source, self._limits = source, limits
        self._shelf = None

    def put(self, accepted) -> TensorRef:
        """Offer; the tasks are those of the accepting end."""
        self._shelf = Shelf("far", accepted.tasks, LoopClock(), SeededRandom(3), self._limits)
        return self._shelf.put(self._source).ref

    def serve(self, session) -> None:
        """Answer a session's pulls."""
        self._shelf.attach(session)


def ref_of(words: list[str]) -> TensorRef:
    """Return the reference that a child has told."""
    key, layout, nbytes = words
    return TensorRef("far", key, 0, bytes.fromhex(layout), int(nbytes))


async def fetch(session, ref: TensorRef) -> TensorSet:
    """Pull a reference; the digests are checked on the way."""
    sink = MemorySink()
    await Downloader(session.limits, LayoutCache()).fetch(session, ref, sink)
    return sink.tensors
