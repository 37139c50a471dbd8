"""A sink that writes into memory that was there before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from flare_async.transfer.spec import TensorSpec

__all__ = ["KeptMemory", "KeptSink"]


class KeptMemory:
    """Touched buffers of one length, used again and again: no page of them is new to anybody."""

    def __init__(self, nbytes: int) -> None:
        self._nbytes = nbytes
        self._free: list[memoryview] = []

    def take(self) -> memoryview:
        """Return a buffer that nobody else has."""
        return self._free.pop() if self._free else np.ones(self._nbytes, np.uint8).data

    def give(self, view: memoryview) -> None:
        """Let somebody else have it."""
        self._free.append(view)


class KeptSink:
    """Takes an offer of one tensor into ``view``."""

    def __init__(self, view: memoryview) -> None:
        self._view = view

    def begin(self, specs: Sequence[TensorSpec], aliases: Mapping[str, str] | None = None) -> None:
        """Take note of nothing: the offer is known."""

    def destination(self, name: str, offset: int, nbytes: int) -> memoryview:
        """Return the memory of a range."""
        return self._view[offset : offset + nbytes]

    def landed(self, name: str, offset: int, nbytes: int) -> None:
        """Take note of nothing: ``Downloader`` verifies it."""

    def write(self, name: str, offset: int, data: memoryview) -> None:
        """Copy what came in memory of its own."""
        self._view[offset : offset + len(data)] = data

    def read(self, name: str, offset: int, nbytes: int) -> memoryview:
        """Return what has landed."""
        return self._view[offset : offset + nbytes]

    def reject(self, name: str, offset: int, nbytes: int) -> None:
        """Take note of nothing: other bytes will land there."""

    def adopt(self, name: str, view: memoryview) -> None:
        """Copy what came by reference."""
        self.write(name, 0, view)

    def finish(self) -> None:
        """End."""

    def discard(self) -> None:
        """End."""
