"""What anyio must know in plain callbacks, such as those in which frames arrive.

anyio asks sniffio, where that is installed, which event loop runs, and sniffio knows only inside of
a task, or where a context variable tells it. ``tell_loop`` sets the variable for good: what is
called by a loop of asyncio stays so, and every callback and task is given a copy of the context
that made it. It is told where a context opens, for all that is made from there; where a handler is
given a channel, because the task that sent may know nothing of that context; and where this package
starts something from a callback, because a timer runs in the context of whoever armed it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVarTuple

import anyio

try:
    import sniffio
except ImportError:  # then anyio asks asyncio itself
    sniffio = None

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

__all__ = ["cancel_scope", "start_soon", "tell_loop"]

Args = TypeVarTuple("Args")


def tell_loop() -> None:
    """Let this context, and what is made in it, use anyio in plain callbacks; a loop must run."""
    if sniffio is not None and sniffio.current_async_library_cvar.get() is None:
        sniffio.current_async_library_cvar.set("asyncio")


def start_soon(
    tasks: TaskGroup,
    func: Callable[[*Args], Coroutine[Any, Any, object]],
    *args: *Args,
    name: object = None,
) -> None:
    """Start a task of the group, from a task or from a callback."""
    tell_loop()
    tasks.start_soon(func, *args, name=name)


def cancel_scope() -> anyio.CancelScope:
    """Return a scope that is not entered yet, in a task or in a callback."""
    tell_loop()
    return anyio.CancelScope()
