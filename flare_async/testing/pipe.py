"""One direction of a simulated connection: bytes in order, late, and never too many on the way.

A byte is in one of two places. In the *write buffer* it still belongs to the sender and counts as
``pending``; payloads are referenced there. When the medium takes it, it is copied and is *on the
way*: it arrives after a latency from the medium's seeded stream, never before what left earlier.
At most ``SOCKET_BYTES`` are on the way or wait for a reader that has not started, as in the socket
buffers of a system, so a reader that stands still makes the write buffer grow.

A *way* bends this: it says how slowly bytes leave, travel and are read, when they may arrive at
all, and what becomes of them. ``hold`` shuts the pipe by hand. What is held shut loses nothing.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntFlag
from math import inf
from typing import Protocol

from flare_async.limits import KIB
from flare_async.ports import Clock, Timer
from flare_async.testing.way import Way

__all__ = ["SOCKET_BYTES", "Hold", "Medium", "Pipe", "PipeReader"]

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


def quantum(rate: float) -> int:
    """Return how many bytes may pass at once at a rate."""
    return max(1, int(min(SOCKET_BYTES, rate * QUANTUM_SECONDS)))


class Hold(IntFlag):
    """Why a pipe is held shut by hand."""

    FROZEN = 1
    PARTITION = 2
    VANISHED = 4


class PipeReader(Protocol):
    """The receiving end."""

    def arrived(self, data: bytes) -> None:
        """Take bytes, in order."""

    def ended(self) -> None:
        """Take the end of the stream, once, after the last byte."""

    def cut(self) -> None:
        """Break the connection, because the way says so."""


class Pipe:
    """Bytes from one sender to one reader."""

    __slots__ = (
        "_arrivals",
        "_closing",
        "_departure",
        "_flight",
        "_hold",
        "_medium",
        "_on_departed",
        "_queue",
        "_reader",
        "_reads_at",
        "_timer",
        "_way",
        "pending",
    )

    def __init__(
        self, medium: Medium, on_departed: Callable[[], None], way: Way | None = None
    ) -> None:
        self.pending = 0
        self._medium = medium
        self._way = way
        self._on_departed = on_departed
        self._queue: deque[bytes | memoryview] = deque()
        self._arrivals: deque[tuple[float, bytes]] = deque()
        self._flight = 0
        self._closing = False
        self._hold = Hold(0)
        self._reads_at = -inf  # a slow reader does not read before
        self._reader: PipeReader | None = None
        self._timer: Timer | None = None
        self._departure: Timer | None = None

    @property
    def shut(self) -> bool:
        """Whether nothing can arrive now, not even the end of the stream."""
        return bool(self._hold) or (self._way is not None and self._way.opens_in() > 0)

    def read(self, reader: PipeReader) -> None:
        """Begin to deliver, from a later turn of the loop on."""
        self._reader = reader
        self._expect()

    def hold(self, why: Hold) -> None:
        """Deliver nothing from now on."""
        self._hold |= why
        self._forget_arrival()

    def let_go(self, why: Hold) -> None:
        """Deliver again, unless another reason holds it."""
        self._hold &= ~why
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

    def lose_reader(self) -> None:
        """Deliver nothing any more to a reader that has gone without the sender's knowledge."""
        self._reader = None
        self._forget_arrival()

    def sever(self) -> None:
        """Forget everything: nothing more arrives, not even the end."""
        self._closing = True
        self._reader = None
        self._queue.clear()
        self._arrivals.clear()
        self.pending = self._flight = 0
        self._forget_arrival()
        if self._departure is not None:
            self._departure.cancel()
            self._departure = None

    def _depart(self) -> None:
        clock, rate = self._medium.clock, self._rate()
        while self.pending and self._departure is None:
            chunk = self._take(min(quantum(rate), SOCKET_BYTES - self._flight))
            if not chunk:
                return
            leaves = clock.now()
            if rate < inf:
                leaves += len(chunk) / rate
                self._departure = clock.call_at(leaves, self._departed)
            self._send(chunk, leaves)
        if self._closing and not self.pending and self._departure is None:
            self._send(b"", clock.now())

    def _rate(self) -> float:
        rate = inf if self._medium.bandwidth is None else self._medium.bandwidth
        return rate if self._way is None else min(rate, self._way.rate())

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
        longer = 0.0 if self._way is None else self._way.delay()
        self._arrivals.append((leaves + self._medium.delay() + longer, chunk))
        self._expect()

    def _expect(self) -> None:
        """Set the timer for the next arrival, if there is one and something can arrive."""
        if self._timer is not None or not self._arrivals or self._reader is None or self._hold:
            return
        now = self._medium.clock.now()
        when = max(self._arrivals[0][0], self._reads_at, now)
        if self._way is not None:
            when = max(when, now + self._way.opens_in())
        if when < inf:
            self._timer = self._medium.clock.call_at(when, self._arrive)

    def _forget_arrival(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arrive(self) -> None:
        self._timer = None
        now = self._medium.clock.now()
        if self._way is None:
            while self._has_arrived(now):
                self._deliver(self._arrivals.popleft()[1])
        elif self._has_arrived(now) and not self._way.opens_in():
            self._deliver_slowly(self._way, now)
        if self.pending:
            self._depart()
            self._on_departed()
        self._expect()

    def _has_arrived(self, now: float) -> bool:
        there = self._reader is not None and not self._hold and self._arrivals
        return bool(there) and self._arrivals[0][0] <= now

    def _deliver_slowly(self, way: Way, now: float) -> None:
        """Deliver one read of what has arrived; the next one has a turn of its own."""
        when, chunk = self._arrivals.popleft()
        rate = way.read_rate()
        most = min(way.piece(), quantum(rate))
        if most < len(chunk):
            chunk, rest = chunk[: int(most)], chunk[int(most) :]
            self._arrivals.appendleft((when, rest))
        self._reads_at = now + len(chunk) / rate
        kept, reset = way.strike(chunk)
        reader = self._reader
        self._deliver(kept, len(chunk))
        if reset and reader is not None:
            reader.cut()

    def _deliver(self, chunk: bytes, taken: int = 0) -> None:
        self._flight -= taken or len(chunk)
        if self._reader is not None:
            if chunk:
                self._reader.arrived(chunk)
            elif not taken:
                self._reader.ended()
