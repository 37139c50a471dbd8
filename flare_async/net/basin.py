"""The buffers that one direction of a splice has at the moment, by their place in the stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from flare_async.limits import KIB
from flare_async.net.buffers import Buffers

__all__ = ["LONG_FRAME", "Basin"]

LONG_FRAME: Final = 96 * KIB  # below it, the link's own pieces do as well


@dataclass(slots=True)
class _Place:
    """A buffer for the bytes of a stream from ``start`` on."""

    start: int
    view: memoryview

    @property
    def end(self) -> int:
        return self.start + len(self.view)


class Basin:
    """Offers room for long frames; a buffer is free again when the far reader has its bytes.

    What was offered and did not land whole, because a link was lost, is offered again.
    """

    __slots__ = ("_buffers", "_places")

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self._places: list[_Place] = []  # few, and there are thousands of splices

    def room(self, offset: int, length: int) -> memoryview | None:
        """Return memory for bytes from ``offset`` on, for the first of them at least, or None."""
        for place in reversed(self._places):
            if place.start <= offset < place.end:
                return place.view[offset - place.start :]
        if length < LONG_FRAME:
            return None
        place = _Place(offset, self._buffers.take())
        self._places.append(place)
        return place.view

    def parts(self, offset: int, length: int) -> Iterator[memoryview]:
        """Yield what has landed, in order."""
        stop = offset + length
        for place in self._places:
            if place.start < stop and offset < place.end:
                yield place.view[max(offset - place.start, 0) : stop - place.start]

    def acknowledged(self, upto: int) -> None:
        """Free what the far reader has."""
        while self._places and self._places[0].end <= upto:
            self._buffers.give(self._places.pop(0).view)
