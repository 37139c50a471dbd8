"""One direction of a link of a ``ProfileNetwork``: frames in order, each at its own second.

When a frame is handed over, its times are computed: it leaves when its host's port and the line
have sent all before it, and arrives so much later as the course says, never before the one ahead.
One timer waits for the next arrival. Where the receiving host's port is bounded too, what arrives
waits for its turn there; what is no longer than a packet does not, because systems take turns
between links. So a frame costs a timer or two, whatever its bytes.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, Protocol

from flare_async.ports import Clock, Timer
from flare_async.testing.profile import Course
from flare_async.wire.codec import encode
from flare_async.wire.frames import Ack, Data, Frame
from flare_async.wire.head import HEAD_BYTES, body_bytes

__all__ = ["Host", "Lane", "LaneReader", "frame_size"]

ACK_BYTES: Final = len(encode(Ack(1, 0, 0))[0])
SMALL: Final = 1500  # a packet: systems take turns between links, so it waits for no other


@dataclass(slots=True, eq=False)
class Host:
    """A machine's port: what all its links share, and what has passed.

    Rates are bytes a second. ``payload_out`` and ``payload_in`` are bytes of data frames alone.
    """

    name: str
    rate_out: float = inf
    rate_in: float = inf
    free_out: float = 0.0
    free_in: float = 0.0
    frames_out: int = 0
    bytes_out: int = 0
    payload_out: int = 0
    frames_in: int = 0
    bytes_in: int = 0
    payload_in: int = 0


class LaneReader(Protocol):
    """The receiving end."""

    def arrived(self, frames: Sequence[Frame]) -> None:
        """Take frames, in order."""

    def ended(self) -> None:
        """Take the end, once, after the last frame."""


class Lane:
    """Frames from one host to another; ``pending`` are the bytes that have not left yet."""

    __slots__ = (
        "_arrivals",
        "_clock",
        "_course",
        "_departures",
        "_dice",
        "_free",
        "_from",
        "_landing",
        "_last",
        "_rate",
        "_timer",
        "_to",
        "queued",
        "reader",
    )

    def __init__(
        self, clock: Clock, dice: random.Random, course: Course, ends: tuple[Host, Host]
    ) -> None:
        self.reader: LaneReader | None = None
        self._clock = clock
        self._dice = dice
        self._course = course
        self._from, self._to = ends
        self._rate = min(ends[0].rate_out, course.rate)
        self._free = 0.0
        self._last = 0.0
        self.queued = 0  # as many as are pending, or more: who has left is found out late
        self._departures: deque[tuple[float, int]] = deque()
        self._arrivals: deque[tuple[float, int, Frame | None]] = deque()
        self._landing: deque[tuple[float, Frame | None]] | None = None
        self._timer: Timer | None = None

    @property
    def pending(self) -> int:
        """Bytes that have not left yet."""
        departures = self._departures
        if departures:
            now = self._clock.now()
            while departures and departures[0][0] <= now:
                self.queued -= departures.popleft()[1]
        return self.queued

    def clears(self, nbytes: int) -> float:
        """Return when no more than so many bytes will be pending."""
        left, last = self.pending, self._clock.now()
        for when, size in self._departures:
            if left <= nbytes:
                break
            left, last = left - size, when
        return last

    def send(self, frames: Sequence[Frame]) -> None:
        """Take frames on their way."""
        now, host = self._clock.now(), self._from
        for frame in frames:
            size = frame_size(frame)
            host.frames_out += 1
            host.bytes_out += size
            if type(frame) is Data:
                host.payload_out += len(frame.payload)
            self._depart(now, size, frame)
        if self._timer is None:
            self._expect()

    def end(self) -> None:
        """Let the reader learn, behind all that was sent, that nothing more comes."""
        self._depart(self._clock.now(), 0, None)
        self._expect()

    def read(self, reader: LaneReader) -> None:
        """Deliver from now on to ``reader``."""
        self.reader = reader
        self._expect()

    def drop(self) -> None:
        """Deliver nothing any more."""
        self.reader = self._landing = None
        self._departures.clear()
        self._arrivals.clear()
        self.queued = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _depart(self, now: float, size: int, frame: Frame | None) -> None:
        host, rate, leaves = self._from, self._rate, now
        if size > SMALL and host.rate_out < inf:  # it goes on to the line while it leaves
            if host.free_out > now:
                leaves = host.free_out
            host.free_out = leaves + size / host.rate_out
        if rate < inf:
            if self._free > leaves:
                leaves = self._free
            self._free = leaves = leaves + size / rate
        if leaves > now:
            departures = self._departures
            while departures and departures[0][0] <= now:
                self.queued -= departures.popleft()[1]
            departures.append((leaves, size))
            self.queued += size
        arrives = leaves + self._course.delay(size, self._dice)
        if arrives > self._last:  # never before the one ahead
            self._last = arrives
        self._arrivals.append((self._last, size, frame))

    def _expect(self) -> None:
        if self._timer is not None or self.reader is None:
            return
        when = self._arrivals[0][0] if self._arrivals else inf
        if self._landing and self._landing[0][0] < when:
            when = self._landing[0][0]
        if when < inf:
            self._timer = self._clock.call_at(when, self._arrive)

    def _arrive(self) -> None:
        self._timer = None
        now, arrivals = self._clock.now(), self._arrivals
        here: list[Frame | None] = []
        while arrivals and arrivals[0][0] <= now:
            _, size, frame = arrivals.popleft()
            if self._lands(now, size, frame):
                here.append(frame)
        if self._landing:
            while self._landing and self._landing[0][0] <= now:
                here.append(self._landing.popleft()[1])
        if arrivals or self._landing:
            self._expect()
        if here:
            self._deliver(here)

    def _lands(self, now: float, size: int, frame: Frame | None) -> bool:
        """Count what has arrived; tell whether it is in, or waits until the host's port is free."""
        host = self._to
        host.frames_in += 1
        host.bytes_in += size
        if type(frame) is Data:
            host.payload_in += len(frame.payload)
        if host.rate_in == inf or not (size > SMALL or self._landing):
            return True
        # What finds the port free has come through it while it arrived.
        begins = host.free_in if host.free_in > now else now
        host.free_in = begins + size / host.rate_in
        if begins > now or self._landing:
            if self._landing is None:
                self._landing = deque()
            self._landing.append((begins, frame))
            return False
        return True

    def _deliver(self, frames: list[Frame | None]) -> None:
        whole = [frame for frame in frames if frame is not None]
        if whole and self.reader is not None:
            self.reader.arrived(whole)
        if len(whole) < len(frames) and self.reader is not None:
            self.reader.ended()


def frame_size(frame: Frame) -> int:
    """Return the bytes that a frame has on the wire."""
    if type(frame) is Data:
        return HEAD_BYTES + body_bytes(len(frame.trailer)) + len(frame.payload)
    if type(frame) is Ack:
        return ACK_BYTES
    head, payload = encode(frame)
    return len(head) + len(payload)
