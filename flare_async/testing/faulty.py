"""A link that loses, repeats, delays or reorders frames before its session receives them.

No stream does that. An executor between reading and judging would, and so would a resume that sends
too much: these are the faults of programs, one layer above those of connections.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from flare_async.net.link import Link
from flare_async.testing.tap import TappedLink
from flare_async.wire.frames import Frame, Landed

__all__ = ["FaultyLink", "FramePredicate"]

Arrival: TypeAlias = "Frame | Landed"
FramePredicate: TypeAlias = Callable[[Arrival], bool]


def no_frame(frame: Arrival) -> bool:
    """Choose nothing."""
    return False


class FaultyLink(TappedLink):
    """Any link, with faults of frames on the receiving side; ``withheld`` are those held back.

    Payload is delivered with its frame, never landed before it, so that what is dropped or held
    back has left no byte in the session's memory.
    """

    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self.withheld: list[Arrival] = []
        self.dropped = 0
        self._drops: FramePredicate = no_frame
        self._doubles: FramePredicate = no_frame
        self._withholds: FramePredicate = no_frame

    def drop(self, chosen: FramePredicate) -> None:
        """Lose the frames that ``chosen`` picks, from now on."""
        self._drops = chosen

    def duplicate(self, chosen: FramePredicate) -> None:
        """Deliver the frames that ``chosen`` picks twice, one right after the other."""
        self._doubles = chosen

    def withhold(self, chosen: FramePredicate) -> None:
        """Keep the frames that ``chosen`` picks until ``deliver``; the others pass them."""
        self._withholds = chosen

    def deliver(self, order: Sequence[int] | None = None) -> None:
        """Deliver what is withheld, as it came or by its places in ``order``; withhold no more."""
        self._withholds = no_frame
        frames, self.withheld = self.withheld, []
        super().receive(frames if order is None else [frames[at] for at in order])

    def heal(self) -> None:
        """End all faults; what is withheld is delivered as it came."""
        self._drops = self._doubles = no_frame
        self.deliver()

    # For the link, as its receiver

    def receive(self, frames: Sequence[Arrival]) -> None:
        """Pass on what no fault takes."""
        passing: list[Arrival] = []
        for frame in frames:
            if self._drops(frame):
                self.dropped += 1
            elif self._withholds(frame):
                self.withheld.append(frame)
            else:
                passing += (frame, frame) if self._doubles(frame) else (frame,)
        if passing or not frames:
            super().receive(passing)

    def destination(self, channel: int, offset: int, length: int) -> memoryview | None:
        """Lend nothing: bytes must not land before their frame is delivered."""
        return None
