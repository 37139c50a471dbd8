"""A train function of ``test_seats.py``, which worker processes load by this file's path."""

from __future__ import annotations

from pathlib import Path

__all__ = ["train"]


def train(model, site, pipe):
    """Let the first site's training go on when the last one trains: a pipe opens with both ends."""
    if site.index == 0:
        Path(pipe).read_bytes()
    elif site.index == site.num_sites - 1:
        Path(pipe).write_bytes(b"")
    return model
