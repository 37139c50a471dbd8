"""Memory that nothing uses any more, given back to the system.

What a round has freed stays with the process: garbage until the collector looks, freed blocks until
the allocator trims its heaps. Every call here is one that an allocator may not have; then it does
nothing.
"""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress
from typing import Final, Protocol

from flare_async.errors import ConfigError

__all__ = ["LARGE_MODEL", "checked_gc_rounds", "is_due", "return_memory", "trim_allocator"]

LARGE_MODEL: Final = 64_000_000  # bytes from which on a round's memory is given back by default
ALL_ARENAS: Final = b"arena.4096.purge"  # MALLCTL_ARENAS_ALL


class Library(Protocol):
    """The C functions of this process, each of which may be missing."""

    def __getattr__(self, name: str) -> ctypes._NamedFuncPointer:
        """Return a function. Raises AttributeError."""


def return_memory() -> bool:
    """Collect garbage and let the allocator give back what is free; say whether it can.

    Takes milliseconds a gigabyte, so large processes call it off the loop.
    """
    gc.collect()
    return trim_allocator()


def trim_allocator(library: Library | None = None) -> bool:
    """Give free memory of jemalloc, glibc or macOS back; say whether one of them was there."""
    found = own_library() if library is None else library
    if found is None:
        return False
    with suppress(AttributeError):
        found.mallctl(ALL_ARENAS, None, None, None, ctypes.c_size_t(0))
        return True
    with suppress(AttributeError):
        found.malloc_trim(ctypes.c_size_t(0))
        return True
    with suppress(AttributeError):
        found.malloc_zone_pressure_relief(None, ctypes.c_size_t(0))
        return True
    return False


def own_library() -> ctypes.CDLL | None:
    """Return the symbols of this process, or None where the system does not tell."""
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows takes no None
        return None


def is_due(number: int, every: int | None, nbytes: int) -> bool:
    """Return whether memory is to be given back after round ``number``, counted from 0.

    ``every`` is a number of rounds, 0 is never, and None is every round from ``LARGE_MODEL`` bytes
    of model on: below, a round frees less than it would cost to look for.
    """
    if every is None:
        return nbytes >= LARGE_MODEL
    return every > 0 and (number + 1) % every == 0


def checked_gc_rounds(field: str, value: object) -> int | None:
    """Return ``value`` when it says after how many rounds memory is given back.

    Raises:
        ConfigError: it is neither None nor an integer of at least 0.
    """
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise ConfigError(field, value, "rounds are needed: 0 is never, 1 is after each")
