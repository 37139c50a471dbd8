"""Faults that strike at a place of the stream or at a moment: cuts, resets, flipped bits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from flare_async.testing.faults import Fault
from flare_async.testing.scanner import FrameMark
from flare_async.wire.head import HEAD_BYTES

__all__ = ["BitFlip", "Cut", "Place", "ResetInFrame"]

INSTANT = 1e-9  # a timer may come so much early by rounding
Place = Literal["head", "payload", "last_byte"]


@dataclass(frozen=True, slots=True)
class Cut(Fault):
    """The connection breaks, and both ends are told: at a time, or after so many bytes.

    ``every`` repeats it, in seconds or in bytes as the first one is given; ``stop`` ends that.
    Bytes are counted in each direction for itself.
    """

    at: float | None = None
    after_bytes: int | None = None
    every: float | None = None

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        self.positive("after_bytes", "every")
        one = (self.at is None) != (self.after_bytes is None)
        self.expect("at", one, f"with after_bytes={self.after_bytes}: give exactly one of the two")
        self.expect("at", self.at is None or 0 <= self.at < math.inf, "seconds from 0 are needed")

    def next_cut(self, now: float) -> float:
        """Return the next moment of a cut after ``now``; infinity when there is none."""
        if self.at is None:
            return math.inf
        when, since = self.at, now - self.at + INSTANT
        if since >= 0:
            when += math.inf if self.every is None else (since // self.every + 1) * self.every
        return when if self.active(when) else math.inf

    def next_byte(self, passed: int) -> float:
        """Return the next position of a cut, when so many bytes have passed."""
        first = math.inf if self.after_bytes is None else self.after_bytes
        if passed < first:
            return first
        step = math.inf if self.every is None else max(1, int(self.every))
        return first + ((passed - first) // step + 1) * step


@dataclass(frozen=True, slots=True)
class ResetInFrame(Fault):
    """The connection is reset inside a frame with payload: what was before that byte arrives.

    ``where``: in the middle of the ``head``, in the middle of the ``payload``, or before the
    ``last_byte``. ``occurrence`` counts such frames from 1.
    """

    where: Place = "payload"
    occurrence: int = 1

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        known = get_args(Place)
        self.expect("where", self.where in known, f"use one of {', '.join(known)}")
        counts = type(self.occurrence) is int and self.occurrence > 0
        self.expect("occurrence", counts, "frames are counted from 1")

    def position(self, mark: FrameMark) -> int:
        """Return the byte of the stream before which the reset comes."""
        match self.where:
            case "head":
                return mark.start + HEAD_BYTES // 2
            case "payload":
                return mark.start + HEAD_BYTES + mark.length // 2
            case _:
                return mark.start + HEAD_BYTES + mark.length - 1


@dataclass(frozen=True, slots=True)
class BitFlip(Fault):
    """One bit of the byte ``at_byte`` arrives flipped: of all bytes, or of ``payload`` only.

    The checksum of a frame's head finds it there; in the payload only the digest does.
    """

    at_byte: int
    payload: bool = False
    bit: int = 0

    def __post_init__(self) -> None:
        Fault.__post_init__(self)
        counts = type(self.at_byte) is int and self.at_byte >= 0
        self.expect("at_byte", counts, "bytes are counted from 0")
        self.expect("bit", self.bit in range(8), "a byte has the bits 0 to 7")
