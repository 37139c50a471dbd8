"""What a process of ours runs on: its event loop, and how often it collects garbage."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

__all__ = ["calm_collector", "new_loop", "spare_collector"]

YOUNG_OBJECTS = 50_000  # between two collections; the default 700 is for programs with few objects
BESIDE_A_HOST = YOUNG_OBJECTS - 1  # as many, where freezing is the host's business
CALM: Final[ContextVar[bool]] = ContextVar("flare_async.calm", default=False)  # freezing is ours


def new_loop() -> asyncio.AbstractEventLoop:
    """Return a new uvloop loop, or asyncio's own where uvloop does not exist (Windows)."""
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()


@contextmanager
def calm_collector(young: int = YOUNG_OBJECTS) -> Iterator[None]:
    """Let the garbage collector look less often, and not at what exists already.

    Thousands of sessions are long-lived objects: looking through all of them again and again took
    a quarter of a simulation with 1,000 sites. Restored at the end; only for a run that has its
    process to itself, because what is garbage among the older objects waits until then. More
    ``young`` objects between two collections suit who runs no code but ours, which leaves few
    cycles: they may hold anything. A host that has frozen objects itself keeps them so: then
    nothing is frozen here, as it could not be let go of without the host's.
    """
    before, free = gc.get_threshold(), gc.get_freeze_count() == 0
    if free:
        gc.freeze()
    gc.set_threshold(young if free else BESIDE_A_HOST, *before[1:])
    token = CALM.set(free)
    try:
        yield
    finally:
        CALM.reset(token)
        if free:
            gc.freeze()  # what the run leaves becomes old at once, not after a look at all of it
        gc.set_threshold(*before)
        if free:
            gc.unfreeze()


@contextmanager
def spare_collector(young: int = 0) -> Iterator[None]:
    """Let a calm collector not look at all at what comes to be in the block, here or later.

    It is for thousands of sessions, which are no garbage for as long as the run lasts. Afterwards
    so many ``young`` objects may be between two collections as thousands of sites have in a round,
    if that is more than before: they are none either. Does nothing outside of ``calm_collector``,
    or where a host freezes.
    """
    before = gc.get_threshold()
    if not CALM.get():
        yield
        return
    gc.set_threshold(0)
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(max(young, before[0]), *before[1:])
