"""What is known of an update's values when it is whole, because it was looked at as it came."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol, TypeGuard, runtime_checkable

from flare_async.net.zeros import is_zeros
from flare_async.transfer.kernel import largest, values_nbytes

__all__ = ["Looks", "Seen", "is_seen"]


@runtime_checkable
class Seen(Protocol):
    """A source that may know the largest value of a tensor without reading it again."""

    def largest(self, name: str) -> float | None:
        """Return the largest absolute value, or None where that is not known."""


def is_seen(source: object) -> TypeGuard[Seen]:
    """Return whether a source may know that; ``isinstance`` takes thirty times as long."""
    return hasattr(source, "largest")


class Looks:
    """Looks at tensors while their bytes are still in the processor's cache.

    Only what comes in order and in whole values is looked at; a tensor that comes otherwise, whose
    bytes are taken back, or that has a value that is not finite, is unknown, and has to be read.
    """

    __slots__ = ("_at", "_dtypes", "_largest")

    def __init__(self, dtypes: Mapping[str, str]) -> None:
        self._dtypes = dtypes
        self._at: dict[str, int] = {}
        self._largest: dict[str, float] = {}

    def see(self, name: str, offset: int, data: memoryview) -> None:
        """Look at a range that has landed."""
        dtype = self._dtypes.get(name)
        if dtype is None or self._at.get(name, 0) != offset:
            return
        found = math.nan if data.nbytes % values_nbytes(dtype) else largest_of(dtype, data)
        if math.isnan(found):
            self.forget(name)
            return
        self._largest[name] = max(found, self._largest.get(name, 0.0))
        self._at[name] = offset + data.nbytes

    def forget(self, name: str) -> None:
        """Know no more of a tensor, whatever comes."""
        self._at[name] = -1

    def of(self, name: str, nbytes: int) -> float | None:
        """Return the largest value of a tensor of so many bytes; None where it is not known."""
        return self._largest.get(name) if self._at.get(name) == nbytes else None


def largest_of(dtype: str, data: memoryview) -> float:
    """Return the largest absolute value; that of the zero page is known."""
    return 0.0 if is_zeros(data) else largest(dtype, data)
