"""Buffers for bytes that pass through memory on their way to a file, and who holds which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from flare_async.limits import MIB

__all__ = ["BUFFER", "NO_ROOM", "BufferPool", "Lease", "Leases"]

BUFFER: Final = MIB
NO_ROOM: Final = memoryview(b"")  # "no memory now": whoever gets it writes from its own
_KEPT: Final = 4
_LEASED: Final = 15  # with the one that a write needs, 16 MiB at most


class BufferPool:
    """Hands out memory of a MiB at a time and takes it back."""

    __slots__ = ("_free", "leased", "most_leased")

    def __init__(self) -> None:
        self._free: list[memoryview] = []
        self.leased = 0
        self.most_leased = 0

    def take(self, nbytes: int) -> memoryview:
        """Return writable memory of at least that length, from the pool where it suffices."""
        if nbytes <= BUFFER and self._free:
            return self._free.pop()
        return np.empty(max(nbytes, BUFFER), np.uint8).data

    def give(self, buffer: memoryview) -> None:
        """Put memory that nobody uses any more back, whole as it was taken."""
        if buffer.nbytes == BUFFER and len(self._free) < _KEPT:
            self._free.append(buffer)

    def lease(self) -> memoryview | None:
        """Return a buffer, or None when as many as may be are leased; end it with ``end_lease``."""
        if self.leased >= _LEASED:
            return None
        self.leased += 1
        self.most_leased = max(self.most_leased, self.leased)
        return self.take(BUFFER)

    def end_lease(self, buffer: memoryview | None = None) -> None:
        """Count a lease as ended; without its buffer, that is left to whoever still writes."""
        self.leased -= 1
        if buffer is not None:
            self.give(buffer)

    def clear(self) -> None:
        """Let go of what is free."""
        self._free = []


@dataclass(slots=True)
class Lease:
    """A range of a tensor that somebody writes to before it goes to the file."""

    start: int
    end: int
    buffer: memoryview
    landed: int = 0

    def part(self, start: int, end: int) -> memoryview:
        """Return the memory of a range within."""
        return self.buffer[start - self.start : end - self.start]


class Leases:
    """The leases of one tensor: disjoint, each at most a buffer long."""

    __slots__ = ("_leases", "_pool")

    def __init__(self, pool: BufferPool) -> None:
        self._pool = pool
        self._leases: list[Lease] = []

    def room(self, start: int, end: int) -> memoryview:
        """Return memory for a range or for its beginning; nothing when too much is leased.

        What is leased already has its memory, and keeps it: bytes may have been written there of
        which nobody was told yet.
        """
        lease = self.of(start, start + 1)
        if lease is None:
            end = min(end, start + BUFFER, *(w.start for w in self._leases if w.start > start))
            buffer = self._pool.lease()
            if buffer is None:
                return NO_ROOM
            lease = Lease(start, end, buffer)
            self._leases.append(lease)
        return lease.part(start, min(end, lease.end))

    def of(self, start: int, end: int) -> Lease | None:
        """Return the lease that holds a range."""
        return next((w for w in self._leases if w.start <= start and end <= w.end), None)

    def landed(self, lease: Lease, nbytes: int) -> None:
        """Count bytes as written to the file; the last ones give the buffer back."""
        lease.landed += nbytes
        if lease.landed == lease.end - lease.start:
            self._leases.remove(lease)
            self._pool.end_lease(lease.buffer)

    def revoke(self, start: int, end: int) -> None:
        """Forget leases that overlap a range; their writers may still hold the memory."""
        kept = [w for w in self._leases if w.end <= start or end <= w.start]
        for _ in range(len(self._leases) - len(kept)):
            self._pool.end_lease()
        self._leases = kept

    def clear(self) -> None:
        """Forget all."""
        for _ in self._leases:
            self._pool.end_lease()
        self._leases = []
