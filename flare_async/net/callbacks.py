"""What anyio must know in plain callbacks, such as those in which frames arrive.

anyio asks sniffio, where that is installed, which event loop runs, and sniffio knows only inside of
a task, or where it is told. It is told for this thread and taken back: a context variable would go
on into every task, timer and worker thread, where ``anyio.run`` then refuses to run. It is told
while a context is open; where a handler is given a channel, because that may have no context; and
where this package starts something from a callback.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVarTuple

import anyio

try:
    from sniffio import thread_local as told
except ImportError:  # then anyio asks asyncio itself
    told = None

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

__all__ = ["cancel_scope", "loop_told", "start_soon"]

Args = TypeVarTuple("Args")


@contextmanager
def loop_told() -> Iterator[None]:
    """Let plain callbacks of this thread use anyio in the block; a loop of asyncio must run.

    Of blocks that overlap the first one tells, and takes it back at its end.
    """
    if told is None or told.name is not None:
        yield
        return
    told.name = "asyncio"
    try:
        yield
    finally:
        told.name = None


def start_soon(
    tasks: TaskGroup,
    func: Callable[[*Args], Coroutine[Any, Any, object]],
    *args: *Args,
    name: object = None,
) -> None:
    """Start a task of the group, from a task or from a callback."""
    with loop_told():
        tasks.start_soon(func, *args, name=name)


def cancel_scope() -> anyio.CancelScope:
    """Return a scope that is not entered yet, in a task or in a callback."""
    with loop_told():
        return anyio.CancelScope()
