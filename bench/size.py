"""Sizes as people write them: ``8MB``, ``1 KiB``, ``4096``; read as the product's commands do."""

from __future__ import annotations

import argparse

import click

from flare_async.sim.quantities import SIZE

__all__ = ["format_size", "parse_size"]


def parse_size(text: str) -> int:
    """Return the bytes that ``text`` names; KB is 1000 bytes, KiB is 1024.

    Raises:
        argparse.ArgumentTypeError: it names no size of at least one byte.
    """
    try:
        found = int(SIZE.convert(text, None, None))
    except click.BadParameter as exc:
        raise argparse.ArgumentTypeError(exc.message) from exc
    if found == 0:
        raise argparse.ArgumentTypeError(f"{text!r:.40} is no size: write 100KB, 8MB or 1GiB")
    return found


def format_size(nbytes: int) -> str:
    """Return the shortest exact way to write a size."""
    for unit, name in ((2**30, "GiB"), (10**9, "GB"), (2**20, "MiB"), (10**6, "MB")):
        if nbytes % unit == 0:
            return f"{nbytes // unit} {name}"
    for unit, name in ((2**10, "KiB"), (10**3, "KB")):
        if nbytes % unit == 0:
            return f"{nbytes // unit} {name}"
    return f"{nbytes} B"
