"""Where the functions that a script calls find their desk: a context variable of its thread."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from flare_async.jobs.scripts.desk import Desk

__all__ = ["SEAT", "Seat"]


@dataclass(slots=True, eq=False)
class Seat:
    """One script's desk, and the client context that was made for it, if any.

    The context is kept here and not in a variable of its own: what a coroutine of the script sets
    would be gone when that coroutine ends.
    """

    desk: Desk
    context: object = None
    inits: int = 0  # the second ``init`` is warned of


SEAT: Final[ContextVar[Seat | None]] = ContextVar("flare_async.script", default=None)
