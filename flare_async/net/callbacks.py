"""Tasks and scopes that are made in plain callbacks, such as those in which frames arrive.

anyio asks sniffio, where that is installed, which event loop runs, and sniffio knows only inside of
a task. In a callback the answer is given beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVarTuple

import anyio

try:
    import sniffio
except ImportError:  # then anyio asks asyncio itself
    sniffio = None

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

__all__ = ["cancel_scope", "start_soon"]

Args = TypeVarTuple("Args")


def start_soon(
    tasks: TaskGroup,
    func: Callable[[*Args], Coroutine[Any, Any, object]],
    *args: *Args,
    name: object = None,
) -> None:
    """Start a task of the group, from a task or from a callback."""
    with _told():
        tasks.start_soon(func, *args, name=name)


def cancel_scope() -> anyio.CancelScope:
    """Return a scope that is not entered yet, in a task or in a callback."""
    with _told():
        return anyio.CancelScope()


@contextmanager
def _told() -> Iterator[None]:
    if sniffio is None:
        yield
        return
    token = sniffio.current_async_library_cvar.set("asyncio")
    try:
        yield
    finally:
        sniffio.current_async_library_cvar.reset(token)
