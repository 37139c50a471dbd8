"""One direction of a link of a ``ProfileNetwork``: frames in order, each at its own second.

When a frame is handed over, its times are computed: it leaves when its host's port and the line
have sent all before it, and arrives so much later as the course says, never before the one ahead.
The lane itself is the timer of the next arrival. Where the receiving host's port is bounded too,
what arrives waits for its turn there; what is no longer than a packet does not, because systems
take turns between links. So a frame costs a timer or two, whatever its bytes.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final, TypeAlias

from flare_async.testing.frame_size import frame_size
from flare_async.testing.profile import Course
from flare_async.testing.timers import Alarm
from flare_async.wire.frames import Data, Frame

if TYPE_CHECKING:
    from flare_async.testing.loop import SimLoop

__all__ = ["Host", "Lane"]

SMALL: Final = 1500  # a packet: systems take turns between links, so it waits for no other


# When it arrives, its bytes, itself or the end, when it leaves.
Flight: TypeAlias = tuple[float, int, Frame | None, float]


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


class Lane(Alarm):
    """Frames from one host to another; rings when the next one arrives.

    ``sent`` are the bytes that were handed over and have not arrived; no more than these are
    ``pending``, which have not left.
    """

    __slots__ = (
        "_arrivals",
        "_course",
        "_dice",
        "_end",
        "_free",
        "_from",
        "_landing",
        "_last",
        "_rate",
        "_receive",
        "_to",
        "sent",
    )

    def __init__(
        self, loop: SimLoop, dice: random.Random, course: Course, ends: tuple[Host, Host]
    ) -> None:
        super().__init__(loop)
        self.sent = 0
        self._dice = dice
        self._course = course
        self._from, self._to = ends
        self._rate = min(ends[0].rate_out, course.rate)
        self._free = 0.0
        self._last = 0.0
        # A list and not a deque: there are twice as many as links, and most have a frame or none.
        self._arrivals: list[Flight] = []
        self._landing: deque[tuple[float, Frame | None]] | None = None
        self._receive: Callable[[list[Frame]], None] | None = None
        self._end: Callable[[], None] | None = None

    @property
    def pending(self) -> int:
        """Bytes that have not left yet."""
        now, waiting = self._loop.now, 0
        for _, size, _, leaves in reversed(self._arrivals):
            if leaves <= now:
                break
            waiting += size
        return waiting

    def clears(self, nbytes: int) -> float:
        """Return when no more than so many bytes will be pending."""
        left, now = self.pending, self._loop.now
        last = now
        for _, size, _, leaves in self._arrivals:
            if left <= nbytes:
                break
            if leaves > now:
                left, last = left - size, leaves
        return last

    def send(self, frames: Sequence[Frame]) -> None:
        """Take frames on their way."""
        now, host = self._loop.now, self._from
        for frame in frames:
            if type(frame) is Data:
                host.payload_out += len(frame.payload)
            size = frame_size(frame)
            host.bytes_out += size
            self._depart(now, size, frame)
        host.frames_out += len(frames)
        if not self._scheduled and self._receive is not None:
            self._expect()

    def end(self) -> None:
        """Let the reader learn, behind all that was sent, that nothing more comes."""
        self._depart(self._loop.now, 0, None)
        self._expect()

    def read(self, receive: Callable[[list[Frame]], None], end: Callable[[], None]) -> None:
        """Give frames to ``receive`` from now on, in order, and call ``end`` after the last."""
        self._receive, self._end = receive, end
        self._expect()

    def drop(self) -> None:
        """Deliver nothing any more."""
        self._receive = self._end = self._landing = None
        self._arrivals.clear()
        self.sent = 0
        self.cancel()

    def ring(self) -> None:
        """Deliver what has arrived."""
        now, arrivals, host = self._loop.now, self._arrivals, self._to
        here: list[Frame | None] = []
        while arrivals and arrivals[0][0] <= now:
            _, size, frame, _ = arrivals.pop(0)
            self.sent -= size
            host.frames_in += 1
            host.bytes_in += size
            if type(frame) is Data:
                host.payload_in += len(frame.payload)
            bounded = (size > SMALL and host.rate_in < inf) or self._landing
            if not (bounded and self._waits(now, size, frame)):
                here.append(frame)
        while self._landing and self._landing[0][0] <= now:
            here.append(self._landing.popleft()[1])
        if arrivals or self._landing:
            self._expect()
        if here and here[-1] is None:
            self._deliver_end(here)
        elif here and self._receive is not None:
            self._receive(here)  # type: ignore[arg-type] # the end comes last

    def _depart(self, now: float, size: int, frame: Frame | None) -> None:
        host, rate, leaves = self._from, self._rate, now
        if size > SMALL and host.rate_out < inf:  # it goes on to the line while it leaves
            if host.free_out > now:
                leaves = host.free_out
            host.free_out = leaves + size / host.rate_out
        if rate < inf:
            self._free = leaves = max(leaves, self._free) + size / rate
        arrives = leaves + self._course.delay(size, self._dice)
        if arrives > self._last:
            self._last = arrives
        else:
            arrives = self._last
        self.sent += size
        self._arrivals.append((arrives, size, frame, leaves))

    def _expect(self) -> None:
        if self._scheduled or self._receive is None:
            return
        when = self._arrivals[0][0] if self._arrivals else inf
        if self._landing and self._landing[0][0] < when:
            when = self._landing[0][0]
        if when < inf:
            self.set(when)

    def _waits(self, now: float, size: int, frame: Frame | None) -> bool:
        """Let a frame wait until the host's port is free; tell whether it has to.

        What finds the port free has come through it while it arrived.
        """
        host = self._to
        begins = max(now, host.free_in)
        host.free_in = begins + size / host.rate_in
        if begins == now and not self._landing:
            return False
        if self._landing is None:
            self._landing = deque()
        self._landing.append((begins, frame))
        return True

    def _deliver_end(self, frames: list[Frame | None]) -> None:
        before = [frame for frame in frames if frame is not None]
        if before and self._receive is not None:
            self._receive(before)
        if self._end is not None:
            self._end()
