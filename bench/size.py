"""Sizes as people write them: ``8MB``, ``1 KiB``, ``4096``."""

from __future__ import annotations

import argparse
import re
from typing import Final

__all__ = ["format_size", "parse_size"]

UNITS: Final = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
}
PATTERN: Final = re.compile(r"(\d{1,15})\s*([A-Za-z]*)")


def parse_size(text: str) -> int:
    """Return the bytes that ``text`` names; KB is 1000 bytes, KiB is 1024.

    Raises:
        argparse.ArgumentTypeError: it names no size of at least one byte.
    """
    found = PATTERN.fullmatch(text.strip())
    unit = None if found is None else UNITS.get(found[2].upper())
    if found is None or unit is None or int(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r:.40} is no size: write 100KB, 8MB or 1GiB")
    return int(found[1]) * unit


def format_size(nbytes: int) -> str:
    """Return the shortest exact way to write a size."""
    for unit, name in ((2**30, "GiB"), (10**9, "GB"), (2**20, "MiB"), (10**6, "MB")):
        if nbytes % unit == 0:
            return f"{nbytes // unit} {name}"
    for unit, name in ((2**10, "KiB"), (10**3, "KB")):
        if nbytes % unit == 0:
            return f"{nbytes // unit} {name}"
    return f"{nbytes} B"
