"""Which bytes of one tensor have arrived: disjoint ranges, in any order."""

from __future__ import annotations

import bisect

__all__ = ["Coverage"]


class Coverage:
    """Disjoint, merged half-open ranges within ``size`` bytes."""

    __slots__ = ("_ends", "_starts", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._starts: list[int] = []
        self._ends: list[int] = []

    @property
    def covered(self) -> int:
        """The number of bytes that have arrived."""
        return sum(self._ends) - sum(self._starts)

    @property
    def complete(self) -> bool:
        """Whether every byte has arrived."""
        return not self.size or (self._starts == [0] and self._ends == [self.size])

    @property
    def contiguous(self) -> int:
        """How many bytes from the first on have arrived without a gap."""
        return self._ends[0] if self._starts and self._starts[0] == 0 else 0

    def within(self, start: int, end: int) -> bool:
        """Return whether the range lies inside of the tensor."""
        return 0 <= start <= end <= self.size

    def overlaps(self, start: int, end: int) -> bool:
        """Return whether any byte of the range has arrived."""
        if not self._starts:
            return False
        after = bisect.bisect_right(self._ends, start)
        return start < end and after < len(self._starts) and self._starts[after] < end

    def covers(self, start: int, end: int) -> bool:
        """Return whether all bytes of the range have arrived."""
        at = bisect.bisect_right(self._starts, start) - 1
        return start == end or (at >= 0 and end <= self._ends[at])

    def add(self, start: int, end: int) -> None:
        """Note a range that is within the tensor and overlaps nothing."""
        if start == end:
            return
        if not self._starts:  # the usual case: a tensor comes as one
            self._starts, self._ends = [start], [end]
            return
        at = bisect.bisect_left(self._starts, start)
        joins_left = at > 0 and self._ends[at - 1] == start
        joins_right = at < len(self._starts) and self._starts[at] == end
        if joins_left and joins_right:
            self._ends[at - 1] = self._ends.pop(at)
            del self._starts[at]
        elif joins_left:
            self._ends[at - 1] = end
        elif joins_right:
            self._starts[at] = start
        else:
            self._starts.insert(at, start)
            self._ends.insert(at, end)

    def remove(self, start: int, end: int) -> None:
        """Forget that any byte of a range has arrived."""
        if start == end:
            return  # else a range around this point would be two that touch
        kept = []
        for begin, stop in zip(self._starts, self._ends, strict=True):
            kept += [(begin, min(stop, start)), (max(begin, end), stop)]
        kept = [(begin, stop) for begin, stop in kept if begin < stop]
        self._starts = [begin for begin, _ in kept]
        self._ends = [stop for _, stop in kept]
