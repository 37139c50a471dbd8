"""Tasks that are started from plain callbacks, such as those in which frames arrive.

anyio asks sniffio, where that is installed, which event loop runs, and sniffio knows only inside of
a task. In a callback the answer is given beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVarTuple

try:
    import sniffio
except ImportError:  # then anyio asks asyncio itself
    sniffio = None

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

__all__ = ["start_soon"]

Args = TypeVarTuple("Args")


def start_soon(
    tasks: TaskGroup,
    func: Callable[[*Args], Coroutine[Any, Any, object]],
    *args: *Args,
    name: object = None,
) -> None:
    """Start a task of the group, from a task or from a callback."""
    if sniffio is None:
        tasks.start_soon(func, *args, name=name)
        return
    token = sniffio.current_async_library_cvar.set("asyncio")
    try:
        tasks.start_soon(func, *args, name=name)
    finally:
        sniffio.current_async_library_cvar.reset(token)
