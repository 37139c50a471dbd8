"""What was framed and not acknowledged yet: it may have to be sent again."""

from __future__ import annotations

from collections import deque

__all__ = ["Retained"]


class Retained(deque[memoryview]):
    """Views of one direction, in order, by reference; ``start`` is the offset of the first byte.

    A deque, so that a frame that leaves costs one append.
    """

    __slots__ = ("start",)

    def __init__(self, start: int, view: memoryview) -> None:
        super().__init__((view,))
        self.start = start

    def trim(self, acknowledged: int) -> None:
        """Drop the views that the peer has acknowledged to their last byte."""
        while self and self.start + len(self[0]) <= acknowledged:
            self.start += len(self.popleft())

    def rewind(self, end: int, received: int) -> list[memoryview]:
        """Take away what lies between ``received`` and ``end``, where the last view ends."""
        found: list[memoryview] = []
        while end > received:
            view = self.pop()
            end -= len(view)
            if end < received:
                self.append(view[: received - end])
                view = view[received - end :]
                end = received
            found.append(view)
        found.reverse()
        return found
