"""One direction of a simulated connection: bytes in order, late, and never too many on the way.

A byte is in one of two places. In the *write buffer* it still belongs to the sender and counts as
``pending``; payloads are referenced there. When the medium takes it, it is copied and is *on the
way*: it arrives after a latency from the medium's seeded stream, never before what left earlier.
At most ``SOCKET_BYTES`` are on the way or wait for a reader that has not started, as in the socket
buffers of a system, so a reader that stands still makes the write buffer grow.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from flare_async.limits import KIB
from flare_async.ports import Clock, Timer

__all__ = ["SOCKET_BYTES", "Medium", "Pipe", "PipeReader"]

SOCKET_BYTES = 512 * KIB
QUANTUM_SECONDS = 0.01  # how long a chunk occupies a medium of limited bandwidth


@dataclass(frozen=True, slots=True)
class Medium:
    """What all connections of one network share: the clock, the dice, and their numbers."""

    clock: Clock
    dice: random.Random
    latency: tuple[float, float]  # seconds, the bounds of a uniform distribution
    bandwidth: float | None  # bytes a second of each direction; None is no bound

    def delay(self) -> float:
        """Draw one latency."""
        return self.dice.uniform(*self.latency)

    def quantum(self) -> int:
        """Return how many bytes may leave at once."""
        if self.bandwidth is None:
            return SOCKET_BYTES
        return max(1, min(SOCKET_BYTES, int(self.bandwidth * QUANTUM_SECONDS)))


class PipeReader(Protocol):
    """The receiving end."""

    def arrived(self, data: bytes) -> None:
        """Take bytes, in order."""

    def ended(self) -> None:
        """Take the end of the stream, once, after the last byte."""


class Pipe:
    """Bytes from one sender to one reader."""

    __slots__ = (
        "_arrivals",
        "_closing",
        "_departure",
        "_flight",
        "_medium",
        "_on_departed",
        "_queue",
        "_reader",
        "_timer",
        "pending",
    )

    def __init__(self, medium: Medium, on_departed: Callable[[], None]) -> None:
        self.pending = 0
        self._medium = medium
        self._on_departed = on_departed
        self._queue: deque[bytes | memoryview] = deque()
        self._arrivals: deque[tuple[float, bytes]] = deque()
        self._flight = 0
        self._closing = False
        self._reader: PipeReader | None = None
        self._timer: Timer | None = None
        self._departure: Timer | None = None

    def read(self, reader: PipeReader) -> None:
        """Begin to deliver, from a later turn of the loop on."""
        self._reader = reader
        self._expect()

    def write(self, parts: Iterable[bytes | memoryview]) -> None:
        """Put parts into the write buffer; they are referenced until they leave.

        Dropped when the stream is closed: the end that closed it has been told.
        """
        if self._closing:
            return
        for part in parts:
            self._queue.append(part)
            self.pending += len(part)
        self._depart()

    def close(self) -> None:
        """Let the stream end after what is in the write buffer."""
        if not self._closing:
            self._closing = True
            self._depart()

    def drop(self) -> None:
        """Forget the write buffer and let the stream end after what is on the way."""
        self._queue.clear()
        self.pending = 0
        if self._departure is not None:
            self._departure.cancel()
            self._departure = None
        self.close()

    def sever(self) -> None:
        """Forget everything: nothing more arrives, not even the end."""
        self._closing = True
        self._reader = None
        self._queue.clear()
        self._arrivals.clear()
        self.pending = self._flight = 0
        for timer in (self._timer, self._departure):
            if timer is not None:
                timer.cancel()
        self._timer = self._departure = None

    def _depart(self) -> None:
        medium = self._medium
        while self.pending and self._departure is None:
            chunk = self._take(min(medium.quantum(), SOCKET_BYTES - self._flight))
            if not chunk:
                return
            leaves = medium.clock.now()
            if medium.bandwidth is not None:
                leaves += len(chunk) / medium.bandwidth
                self._departure = medium.clock.call_at(leaves, self._departed)
            self._send(chunk, leaves)
        if self._closing and not self.pending and self._departure is None:
            self._send(b"", medium.clock.now())

    def _departed(self) -> None:
        self._departure = None
        self._depart()
        self._on_departed()

    def _take(self, count: int) -> bytes:
        parts: list[bytes | memoryview] = []
        while count > 0 and self._queue:
            part = self._queue[0]
            if len(part) <= count:
                self._queue.popleft()
            else:
                view = memoryview(part)
                part, self._queue[0] = view[:count], view[count:]
            parts.append(part)
            count -= len(part)
            self.pending -= len(part)
        return b"".join(parts)

    def _send(self, chunk: bytes, leaves: float) -> None:
        self._flight += len(chunk)
        # What is faster than what left before it waits behind it in the queue.
        self._arrivals.append((leaves + self._medium.delay(), chunk))
        self._expect()

    def _expect(self) -> None:
        if self._timer is None and self._arrivals and self._reader is not None:
            when = max(self._arrivals[0][0], self._medium.clock.now())
            self._timer = self._medium.clock.call_at(when, self._arrive)

    def _arrive(self) -> None:
        self._timer = None
        now = self._medium.clock.now()
        while self._reader is not None and self._arrivals and self._arrivals[0][0] <= now:
            _, chunk = self._arrivals.popleft()
            self._flight -= len(chunk)
            if chunk:
                self._reader.arrived(chunk)
            else:
                self._reader.ended()
        if self.pending:
            self._depart()
            self._on_departed()
        self._expect()
