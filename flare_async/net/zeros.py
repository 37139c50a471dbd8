"""The zero page: memory that holds zeros, is known to, and costs nothing.

Views of it stand for tensors of which only the size counts. It is mapped read-only, so nothing can
ever write to it, and the system backs all of it with one page. Who meets such a view may leave out
what zeros make needless: a copy, a digest that is known, the addition of nothing. The results are
those that any other zeros would give, bit by bit.
"""

from __future__ import annotations

import mmap
from functools import lru_cache

__all__ = ["is_zeros", "zeros"]


class ZeroPage(mmap.mmap):
    """Anonymous memory that nobody can write to."""


@lru_cache(maxsize=64)
def zeros(nbytes: int) -> memoryview:
    """Return a read-only view of so many zeros; the same view at every call."""
    if nbytes == 0:
        return memoryview(b"")
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    return memoryview(ZeroPage(-1, nbytes, flags=flags, prot=mmap.PROT_READ))


def is_zeros(data: bytes | bytearray | memoryview) -> bool:
    """Return whether a view is one of the zero page; zeros elsewhere are not looked for."""
    return type(data) is memoryview and type(data.obj) is ZeroPage
