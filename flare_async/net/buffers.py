"""Memory through which bytes pass: taken for a while, given back, used again."""

from __future__ import annotations

from typing import Final

from flare_async.limits import KIB

__all__ = ["BUFFER_BYTES", "Buffers"]

BUFFER_BYTES: Final = 256 * KIB


class Buffers:
    """Buffers of one length; at most ``most`` that nobody uses are kept."""

    __slots__ = ("_free", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._free: list[memoryview] = []

    def take(self) -> memoryview:
        """Return a buffer that nobody else has."""
        return self._free.pop() if self._free else memoryview(bytearray(BUFFER_BYTES))

    def give(self, buffer: memoryview) -> None:
        """Let somebody else have a buffer: nobody may read it any more."""
        if len(self._free) < self._most:
            self._free.append(buffer)
