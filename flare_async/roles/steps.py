"""Arithmetic in steps, between which the loop does others' work."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

__all__ = ["in_turns"]

STEPS_A_TURN = 4  # of a chunk of a MiB, about 40 microseconds each


async def in_turns(steps: Iterator[None]) -> None:
    """Take steps of a chunk; large arithmetic must not keep the loop to itself."""
    for count, _ in enumerate(steps):
        if count % STEPS_A_TURN == STEPS_A_TURN - 1:
            await asyncio.sleep(0)
