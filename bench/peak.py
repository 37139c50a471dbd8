"""The most memory that this process had at once, since it was last asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["peak_figures", "reset_peak"]

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


def reset_peak() -> None:
    """Let the peak begin anew; without effect where the system has no such thing."""
    if CLEAR.exists():
        CLEAR.write_text("5", encoding="ascii")


def peak_figures() -> Mapping[str, float]:
    """Return the resident size and its peak in bytes, and let the peak begin anew."""
    found = {"rss": 0.0, "peak": 0.0}
    if STATUS.exists():
        lines = dict(line.split(":", 1) for line in STATUS.read_text("ascii").splitlines())
        found = {
            "rss": 1024.0 * int(lines["VmRSS"].split()[0]),
            "peak": 1024.0 * int(lines["VmHWM"].split()[0]),
        }
    reset_peak()
    return found
