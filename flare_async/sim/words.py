"""Numbers and foreign text as people read them: one spelling for live view, tables and report."""

from __future__ import annotations

import math
from typing import Final

__all__ = ["byte_count", "clean", "duration", "number", "percent"]

UNITS: Final = ("B", "KB", "MB", "GB", "TB", "PB")
LONGEST: Final = 300


def byte_count(value: float) -> str:
    """Return a number of bytes with a decimal unit, such as ``1.5 MB``."""
    size = float(value)
    unit = 0
    while size >= 999.95 and unit < len(UNITS) - 1:
        size /= 1000
        unit += 1
    return f"{size:.0f} B" if unit == 0 else f"{size:.1f} {UNITS[unit]}"


def duration(seconds: float) -> str:
    """Return seconds as ``350 us``, ``12 ms``, ``3.2 s`` or ``4 min 05 s``."""
    if not math.isfinite(seconds):
        return "-"
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def number(value: float) -> str:
    """Return a metric with four significant digits; ``-`` where it is not finite."""
    return f"{value:.4g}" if math.isfinite(value) else "-"


def percent(value: float) -> str:
    """Return a share as a percentage with one decimal."""
    return f"{100 * value:.1f} %" if math.isfinite(value) else "-"


def clean(text: str, longest: int = LONGEST) -> str:
    """Return foreign text as one printable line: it may not steer a terminal or a table."""
    line = "".join(char if char.isprintable() else " " for char in text)
    line = " ".join(line.split())
    return line if len(line) <= longest else line[: longest - 3] + "..."
