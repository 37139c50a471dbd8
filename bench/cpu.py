"""Processor time of this process, and where it runs."""

from __future__ import annotations

import os
import resource

__all__ = ["ANY_CORE", "cpu_seconds", "pin", "two_cores"]

ANY_CORE = -1


def cpu_seconds() -> float:
    """Return user and system time of all threads so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def two_cores() -> tuple[int, int]:
    """Return two cores of ours, or ``ANY_CORE`` twice where there are none to choose."""
    if not hasattr(os, "sched_getaffinity"):
        return ANY_CORE, ANY_CORE
    ours = sorted(os.sched_getaffinity(0))
    return (ours[0], ours[-1]) if len(ours) > 1 else (ANY_CORE, ANY_CORE)


def pin(core: int) -> None:
    """Stay on that core from now on, threads included; ``ANY_CORE`` changes nothing."""
    if core != ANY_CORE:
        os.sched_setaffinity(0, {core})
