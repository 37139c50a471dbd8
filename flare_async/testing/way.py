"""One direction of one link, under the faults that concern it."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Final, Protocol

from flare_async.testing.faults import Duplicate, Fault
from flare_async.testing.scanner import FrameScanner
from flare_async.testing.strikers import Piece, Striker, Tally, striker_for
from flare_async.wire.frames import Ack, Data, Frame, Open, Reset

__all__ = ["NOTHING", "Elapsed", "Way", "seconds_until"]

NOTHING: Final = 1e-9
KINDS: Final = {"data": Data, "ack": Ack, "open": Open, "reset": Reset}


class Elapsed(Protocol):
    """The time that faults go by."""

    def now(self) -> float:
        """Return seconds since the network was made."""


class Way:
    """What the faults do to the bytes of one direction; asked by the pipe and the link."""

    __slots__ = ("_dice", "_faults", "_made", "_scanner", "_strikers", "_time")

    def __init__(
        self, time: Elapsed, faults: Sequence[tuple[Fault, Tally]], dice: random.Random
    ) -> None:
        self._time = time
        self._faults = faults
        self._dice = dice
        self._made = time.now()
        strikers = [(fault, striker_for(fault, tally)) for fault, tally in faults]
        self._strikers: list[tuple[Fault, Striker]] = [
            (fault, striker) for fault, striker in strikers if striker is not None
        ]
        self._scanner = FrameScanner()

    def delay(self) -> float:
        """Return seconds that bytes which leave now travel longer."""
        return sum(fault.delay(self._dice) for fault in self._active())

    def rate(self) -> float:
        """Return the bytes a second at which bytes leave now."""
        return min((fault.rate() for fault in self._active()), default=math.inf)

    def read_rate(self) -> float:
        """Return the bytes a second at which the receiver reads now."""
        return min((fault.read_rate() for fault in self._active()), default=math.inf)

    def piece(self) -> float:
        """Return how many bytes the next read brings at most."""
        return min((fault.piece(self._dice) for fault in self._active()), default=math.inf)

    def opens_in(self) -> float:
        """Return in how many seconds bytes may arrive: 0 is now, infinity never."""
        now = self._time.now()
        times = (fault.opens_at(now, self._made) for fault in self._active())
        return seconds_until(max(times, default=now), now)

    def strike(self, data: bytes) -> tuple[bytes, bool]:
        """Return what arrives of the next bytes, and whether the link is reset after them."""
        if not self._strikers:
            return data, False
        start = self._scanner.seen
        marks = self._scanner.feed(data)
        piece = Piece(start, data, [m for m in marks if m.is_payload], self._scanner.runs)
        now = self._time.now()
        acting = [striker for fault, striker in self._strikers if fault.active(now)]
        end = min((striker.end(piece) for striker in acting), default=math.inf)
        reset = end <= len(data)
        kept = data[: int(end)] if reset else data
        for striker in acting:
            kept = striker.take(piece, kept)
        return kept, reset

    def doubled(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        """Return the frames with those twice that a fault duplicates."""
        now = self._time.now()
        for fault, tally in self._faults:
            if isinstance(fault, Duplicate) and fault.active(now):
                frames = [copy for frame in frames for copy in copies(fault, tally, frame)]
        return frames

    def _active(self) -> list[Fault]:
        now = self._time.now()
        return [fault for fault, _ in self._faults if fault.active(now)]


def seconds_until(when: float, now: float) -> float:
    """Return how long it is; what sums of seconds make of nothing is nothing."""
    seconds = when - now
    return seconds if seconds > NOTHING else 0.0


def copies(fault: Duplicate, tally: Tally, frame: Frame) -> tuple[Frame, ...]:
    """Return the frame once, or twice if it is its turn."""
    if type(frame) is not KINDS[fault.kind]:
        return (frame,)
    tally.count += 1
    return (frame, frame) if tally.count % fault.every == 0 else (frame,)
