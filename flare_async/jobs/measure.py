"""What the system says of this process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

__all__ = ["peak_rss_mb", "resident_bytes"]

STATM: Final = Path("/proc/self/statm")
STATUS: Final = Path("/proc/self/status")


def peak_rss_mb(status: Path = STATUS) -> float:
    """Return the peak resident memory of this process in megabytes; 0 where it is unknown."""
    found = _high_water(status)
    return _peak_of_rusage() if found is None else found * 1024 / 1e6


def _high_water(status: Path) -> int | None:
    """Return the peak in KiB as Linux tells it of this process's own memory.

    ``ru_maxrss`` is no less than what the process had that started this one.
    """
    try:
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:  # not Linux
        return None
    told = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return next((int(number) for number in told if number.isdigit()), None)


def _peak_of_rusage() -> float:
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def resident_bytes(statm: Path = STATM) -> int:
    """Return the resident memory of this process now; its peak where only that is known."""
    try:
        pages = int(statm.read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):  # not Linux
        return int(peak_rss_mb() * 1e6)
    return pages * os.sysconf("SC_PAGE_SIZE")
