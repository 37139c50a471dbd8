"""What differs between systems: memory files, dying with the parent, counting cores.

Everything here works on Linux with glibc; each call has a fallback for the other POSIX systems.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import tempfile
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeAlias

__all__ = ["MemoryFile", "die_with_parent", "usable_cores"]

PR_SET_PDEATHSIG: Final = 1
MemfdCreate: TypeAlias = Callable[[str], int]
MEMFD_CREATE: Final[MemfdCreate | None] = getattr(os, "memfd_create", None)


def usable_cores() -> int:
    """Return how many cores this process may use; at least one."""
    affinity = getattr(os, "sched_getaffinity", None)
    return max(1, len(affinity(0)) if affinity is not None else os.cpu_count() or 1)


class MemoryFile:
    """A nameless file in memory, closed when nobody refers to this object any more.

    Not before: a thread that still copies would meet another file under the same number. Where the
    system has no memfd, or refuses one, it is an unlinked temporary file.

    Raises:
        OSError: there is no room for it.
    """

    __slots__ = ("__weakref__", "_fd", "nbytes")

    def __init__(self, nbytes: int, *, create: MemfdCreate | None = MEMFD_CREATE) -> None:
        self.nbytes = nbytes
        self._fd = _nameless(create)
        weakref.finalize(self, os.close, self._fd)
        os.ftruncate(self._fd, nbytes)

    def fileno(self) -> int:
        """Return the descriptor; it is valid while this object lives."""
        return self._fd


def _nameless(create: MemfdCreate | None) -> int:
    if create is not None:
        with suppress(OSError):  # a sandbox may filter the call
            return create("flare-tensors")
    with tempfile.TemporaryFile(prefix="flare-tensors-") as file:
        return os.dup(file.fileno())


def die_with_parent(parent: int) -> bool:
    """Let the kernel kill this process when its parent dies; say whether the parent still lives.

    Without the call (not Linux, no ctypes) a worker ends when it finds its socket closed, which it
    does as soon as it has finished its current training.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    return os.getppid() == parent
