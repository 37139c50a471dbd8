"""Tell where tasks wait, in words that are the same at every run and on every machine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import FrameType

__all__ = ["await_chain", "await_site", "describe_tasks"]

SHOWN_TASKS = 200  # a message about 10,000 clients helps nobody


def await_site(task: asyncio.Task[object]) -> str:
    """Return where a task waits: the qualified name and line of each await, outermost first."""
    return await_chain(task.get_coro())


def await_chain(waiting: object) -> str:
    """Return where a coroutine waits, as ``await_site`` does."""
    places: list[str] = []
    while waiting is not None:
        frame = _attribute(waiting, "frame")
        if not isinstance(frame, FrameType):
            break
        name = getattr(waiting, "__qualname__", type(waiting).__qualname__)
        places.append(f"{name}:{frame.f_lineno}")
        waiting = _attribute(waiting, "await") or _attribute(waiting, "yieldfrom")
    return " > ".join(places) or "is not waiting"


def describe_tasks(tasks: Iterable[asyncio.Task[object]]) -> str:
    """Return one indented line a task: its name and its await site."""
    lines = [f"  {task.get_name()}: {await_site(task)}" for task in tasks]
    more = len(lines) - SHOWN_TASKS
    return "\n".join([*lines[:SHOWN_TASKS], *([f"  ... and {more} more"] if more > 0 else [])])


def _attribute(awaitable: object, name: str) -> object:
    """Read an attribute that coroutines, generators and asynchronous generators prefix."""
    for prefix in ("cr_", "gi_", "ag_"):
        found: object = getattr(awaitable, prefix + name, None)
        if found is not None:
            return found
    return None
