"""What the system says of this process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

__all__ = ["peak_rss_mb", "resident_bytes"]

STATM: Final = Path("/proc/self/statm")


def peak_rss_mb() -> float:
    """Return the peak resident memory of this process in megabytes; 0 where it is unknown."""
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
