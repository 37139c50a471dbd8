"""Tell where tasks wait, in words that are the same at every run and on every machine."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterable
from types import AsyncGeneratorType, CoroutineType, FrameType
from typing import Final

from flare_async.net.lag import Steps

__all__ = ["await_chain", "await_site", "describe_tasks"]

SHOWN_TASKS = 200  # a message about 10,000 clients helps nobody
# What the interpreter puts around a coroutine or a generator, and does not let anybody look into.
WRAPPERS: Final = frozenset(
    {"anext_awaitable", "async_generator_asend", "async_generator_athrow", "coroutine_wrapper"}
)
KNOWN: Final[frozenset[type]] = frozenset({AsyncGeneratorType, CoroutineType})


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
        inner = _attribute(waiting, "await") or _attribute(waiting, "yieldfrom")
        waiting = _driven(frame) if inner is None else _bare(inner)
    return " > ".join(places) or "is not waiting"


def describe_tasks(tasks: Iterable[asyncio.Task[object]]) -> str:
    """Return one indented line a task: its name and its await site."""
    lines = [f"  {task.get_name()}: {await_site(task)}" for task in tasks]
    more = len(lines) - SHOWN_TASKS
    return "\n".join([*lines[:SHOWN_TASKS], *([f"  ... and {more} more"] if more > 0 else [])])


def _driven(frame: FrameType) -> object:
    """Return the coroutine that an awaitable resumes step by step, and does not await."""
    owner = frame.f_locals.get("self")
    return owner._coroutine if isinstance(owner, Steps) else None


def _bare(waiting: object) -> object:
    """Return what a wrapper is around; anything else as it is."""
    if type(waiting).__name__ not in WRAPPERS:
        return waiting
    inside = gc.get_referents(waiting)
    found = (_bare(one) for one in inside if type(one) in KNOWN or type(one).__name__ in WRAPPERS)
    return next(found, None)


def _attribute(awaitable: object, name: str) -> object:
    """Read an attribute that coroutines, generators and asynchronous generators prefix."""
    for prefix in ("cr_", "gi_", "ag_"):
        found: object = getattr(awaitable, prefix + name, None)
        if found is not None:
            return found
    return None
