"""What a fault that strikes at a place of the stream remembers, and does to the bytes there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from flare_async.testing.faults import Fault
from flare_async.testing.scanner import FrameMark
from flare_async.testing.strikes import BitFlip, Cut, ResetInFrame

__all__ = ["Piece", "Striker", "Tally", "striker_for"]


@dataclass(slots=True)
class Tally:
    """How far a fault has counted for one site and direction: over all of the site's links."""

    count: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes that are about to arrive, where they stand in the stream, and what is in them.

    ``frames`` are those with payload that became known, ``runs`` are (place, length) of payload.
    """

    start: int
    data: bytes
    frames: list[FrameMark]
    runs: list[tuple[int, int]]


class Striker(Protocol):
    """One fault at work on one direction of one link."""

    def end(self, piece: Piece) -> float:
        """Return how many bytes of the piece arrive before this fault resets the link."""

    def take(self, piece: Piece, kept: bytes) -> bytes:
        """Count what arrives of the piece; return it, damaged where it is to be."""


class CutStriker:
    """Breaks the link after a number of bytes."""

    __slots__ = ("_fault", "_tally")

    def __init__(self, fault: Cut, tally: Tally) -> None:
        self._fault = fault
        self._tally = tally

    def end(self, piece: Piece) -> float:
        """Return how far it is to the next cut."""
        return self._fault.next_byte(self._tally.count) - self._tally.count

    def take(self, piece: Piece, kept: bytes) -> bytes:
        """Count the bytes."""
        self._tally.count += len(kept)
        return kept


class ResetStriker:
    """Breaks the link inside the n-th frame with payload."""

    __slots__ = ("_due", "_fault", "_tally")

    def __init__(self, fault: ResetInFrame, tally: Tally) -> None:
        self._fault = fault
        self._tally = tally
        self._due = math.inf  # the place in this link's stream, once it is known

    def end(self, piece: Piece) -> float:
        """Return how far it is to the place, if the piece reaches it."""
        nth = self._fault.occurrence - self._tally.count - 1
        if 0 <= nth < len(piece.frames):
            self._due = self._fault.position(piece.frames[nth])
        return self._due - piece.start

    def take(self, piece: Piece, kept: bytes) -> bytes:
        """Count the frames that have begun to arrive."""
        end = piece.start + len(kept)
        self._tally.count += sum(mark.start < end for mark in piece.frames)
        return kept


class FlipStriker:
    """Flips one bit."""

    __slots__ = ("_fault", "_tally")

    def __init__(self, fault: BitFlip, tally: Tally) -> None:
        self._fault = fault
        self._tally = tally

    def end(self, piece: Piece) -> float:
        """Return never: it resets nothing."""
        return math.inf

    def take(self, piece: Piece, kept: bytes) -> bytes:
        """Count the bytes; damage the one that is meant."""
        runs = piece.runs if self._fault.payload else [(0, len(kept))]
        for place, length in runs:
            count = max(0, min(length, len(kept) - place))
            at = self._fault.at_byte - self._tally.count
            self._tally.count += count
            if 0 <= at < count:
                kept = flipped(kept, place + at, self._fault.bit)
        return kept


def flipped(data: bytes, at: int, bit: int) -> bytes:
    """Return the bytes with one bit flipped."""
    damaged = bytearray(data)
    damaged[at] ^= 1 << bit
    return bytes(damaged)


def striker_for(fault: Fault, tally: Tally) -> Striker | None:
    """Return what carries a fault out; None for one that strikes at no place."""
    match fault:
        case Cut(after_bytes=int()):
            return CutStriker(fault, tally)
        case ResetInFrame():
            return ResetStriker(fault, tally)
        case BitFlip():
            return FlipStriker(fault, tally)
        case _:
            return None
