"""What a library writes of tensors, without a copy of them.

Libraries that write files hand over the bytes of arrays as copies. ``Pieces`` stands in for the
file: what it is handed that is the same as the tensors' own memory, it keeps as that memory.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import numpy as np

from flare_async.limits import MIB

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["Pieces"]

SMALL: Final = 4096  # bytes below which a copy costs nothing


class Pieces(io.RawIOBase):
    """A file that is only written to; ``chunks`` are its content.

    ``sources`` are the tensors, each of which is written from its beginning to its end.
    """

    def __init__(self, sources: Iterable[memoryview]) -> None:
        super().__init__()
        self.chunks: list[bytes | memoryview] = []
        self._rest = [source.cast("B") for source in sources if source.nbytes]
        self._nbytes = 0

    def writable(self) -> bool:
        """Return true."""
        return True

    def tell(self) -> int:
        """Return how much was written."""
        return self._nbytes

    def write(self, data: ReadableBuffer, /) -> int:
        """Take the next bytes."""
        view = memoryview(data).cast("B")
        self.chunks.append(self._own(view) if view.nbytes >= SMALL else bytes(view))
        self._nbytes += view.nbytes
        return view.nbytes

    def _own(self, view: memoryview) -> bytes | memoryview:
        for at, rest in enumerate(self._rest):
            if is_prefix(view, rest):
                self._rest[at] = rest[view.nbytes :]
                return rest[: view.nbytes]
        return bytes(view)


def is_prefix(view: memoryview, whole: memoryview) -> bool:
    """Return whether ``whole`` begins with the bytes of ``view``."""
    if view.nbytes > whole.nbytes or bytes(view[:SMALL]) != bytes(whole[: min(SMALL, view.nbytes)]):
        return False  # most that differ do so at once
    pairs = ((view[at : at + MIB], whole[at : at + MIB]) for at in range(0, view.nbytes, MIB))
    return all(
        np.array_equal(np.frombuffer(one, np.uint8), np.frombuffer(other, np.uint8)[: one.nbytes])
        for one, other in pairs
    )
