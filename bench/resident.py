"""The memory of this process that is in use now, and the memory that only waits to be used."""

from __future__ import annotations

import ctypes
import gc
import os
import tracemalloc
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import flare_async

__all__ = ["memory_figures", "traced_files"]

STATM = Path("/proc/self/statm")


def memory_figures() -> Mapping[str, float]:
    """Collect garbage; return the resident size, and what of it the allocator could give back.

    What is free between two allocations is no cost of either: ``rss`` is without it, ``free`` is
    how much that was. Both are 0 where the system does not say, and what the kernel keeps for
    sockets is in neither.
    """
    gc.collect()
    before = resident_bytes()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
    if trim is not None:
        trim(0)
    after = resident_bytes()
    return {"rss": after, "free": before - after}


def resident_bytes() -> int:
    """Return the resident size."""
    if not STATM.exists():
        return 0
    return int(STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def traced_files() -> Mapping[str, int]:
    """Return the bytes that tracemalloc has seen allocated and not freed, by source file."""
    gc.collect()
    root = str(Path(flare_async.__file__).parents[1])
    found: Counter[str] = Counter()
    for statistic in tracemalloc.take_snapshot().statistics("filename"):
        name = statistic.traceback[0].filename
        short = (
            name.removeprefix(root) if name.startswith(root) else "/".join(Path(name).parts[-2:])
        )
        found[short.lstrip("/")] += statistic.size
    return found
