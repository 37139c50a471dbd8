"""A task with a number: what a simulated loop orders and permutes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVar

from flare_async.testing.fence import refuse_thread

__all__ = ["SimTask", "step_number", "stepped_task"]

T = TypeVar("T")

_PUBLIC = frozenset(dir(asyncio.Task))  # call_soon(task.cancel) is a callback, not a step


class SimTask(asyncio.Task[T]):
    """A task with a number, by which it is ordered, and a label for the trace."""

    __slots__ = ("label", "number")

    number: int
    label: str

    def add_done_callback(
        self, fn: Callable[[SimTask[T]], object], /, *, context: Context | None = None
    ) -> None:
        """Add a callback, unless it shows that a real thread was started.

        Raises:
            LocalProtocolError: the callback would stop a thread of ``anyio.to_thread``.
        """
        super().add_done_callback(fn, context=context)
        refuse_thread(fn)  # after the call, so that the thread is still stopped at the end


def stepped_task(handle: asyncio.Handle) -> SimTask[Any] | None:
    """Return the task of which the handle is a step, or None for a plain callback."""
    callback = handle._callback  # type: ignore[attr-defined]
    task = getattr(callback, "__self__", None)
    if type(task) is SimTask and getattr(callback, "__name__", None) not in _PUBLIC:
        return task
    return None


def step_number(handle: asyncio.Handle) -> int:
    """Return the number of the task of which the handle is a step."""
    number: int = handle._callback.__self__.number  # type: ignore[attr-defined]
    return number
