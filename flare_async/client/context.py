"""Which context a call belongs to: the one given, the thread's script, or the process's own."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from typing import Final

from flare_async.client.api import APIContext
from flare_async.errors import ClientCallError, ClientTypeError
from flare_async.jobs.scripts.desk import Desk
from flare_async.jobs.scripts.seat import SEAT, Seat

__all__ = ["find", "init", "rank_of"]

TRAINER: Final = "FLARE_ASYNC_TRAINER"
NO_JOB: Final = (
    "this code is not run by a job; give the file to a recipe as train_script= and run that"
)
FOREIGN_THREAD: Final = (
    "this thread was started by the script, which knows its context: keep what init() returned "
    "and give it as ctx="
)


class _Process:
    """The context of a trainer process: one, made by its first ``init``."""

    __slots__ = ("context", "inits")

    def __init__(self) -> None:
        self.context: APIContext | None = None
        self.inits = 0


_PROCESS: Final = _Process()


def init(
    rank: str | int | None = None,
    config_file: str | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
) -> APIContext:
    """Connect the script to its site and return the context of its calls.

    ``rank`` is the script's number among the processes of its site; default, in a process:
    ``RANK``, or ``LOCAL_RANK`` of a first node. ``config_file`` is accepted for scripts that give
    one and not read: ``get_config`` has the site's options. Calling it again with the same rank is
    harmless and warned of once.

    Raises:
        ClientTypeError: ``rank`` is no number (a ``TypeError``).
        ClientCallError: no job runs this code, or ``init`` was called with another rank before.
    """
    del config_file
    seat = SEAT.get()
    holder: Seat | _Process = _PROCESS if seat is None else seat
    holder.inits += 1
    if seat is not None:
        known = seat.context if isinstance(seat.context, APIContext) else None
        if known is not None:
            return _again(known, rank, seat.inits)
        return _seated(seat, rank)
    if _PROCESS.context is not None:
        return _again(_PROCESS.context, rank, _PROCESS.inits)
    if TRAINER not in environ:
        raise ClientCallError(f"init: {NO_JOB}")
    number = rank_of(environ) if rank is None else _checked(rank)
    _PROCESS.context = APIContext(_opener()(environ, number), number)
    return _PROCESS.context


def find(ctx: APIContext | None = None, *, environ: Mapping[str, str] = os.environ) -> APIContext:
    """Return the context of a call; a script in a thread need not call ``init`` for it.

    Raises:
        ClientCallError: there is none; the error says what to do.
    """
    if ctx is not None:
        return ctx
    seat = SEAT.get()
    if seat is not None:
        known = seat.context
        return known if isinstance(known, APIContext) else _seated(seat, None)
    if _PROCESS.context is not None:
        return _PROCESS.context
    if TRAINER in environ:
        raise ClientCallError("call flare.init() first, once, at the start of the script")
    raise ClientCallError(f"{NO_JOB}; or {FOREIGN_THREAD}")


def rank_of(environ: Mapping[str, str]) -> int:
    """Return the rank that a launcher such as torchrun has set, 0 where there is none.

    Raises:
        ClientTypeError: the variable is no number.
    """
    if environ.get("RANK"):
        return _checked(environ["RANK"])
    first_node = environ.get("NODE_RANK", "0") in {"", "0"}
    return _checked(environ.get("LOCAL_RANK") or "0") if first_node else 1


def _seated(seat: Seat, rank: str | int | None) -> APIContext:
    number = seat.desk.place.rank if rank is None else _checked(rank)
    seat.context = made = APIContext(seat.desk, number)
    return made


def _again(known: APIContext, rank: str | int | None, inits: int) -> APIContext:
    if rank is not None and _checked(rank) != known.rank:
        problem = f"init: called with rank {rank} after rank {known.rank}"
        raise ClientCallError(f"{problem}; a process has one rank")
    if inits == 2:
        warnings.warn("init() was called before; this call does nothing", stacklevel=3)
    return known


def _checked(rank: str | int) -> int:
    try:
        number = int(rank)
    except (TypeError, ValueError):
        number = -1
    if number < 0:
        raise ClientTypeError(f"init: rank={rank!r} is no number from 0 on")
    return number


def _opener() -> Callable[[Mapping[str, str], int], Desk]:
    from flare_async.jobs.trainers.desk import open_desk  # threads never need it

    return open_desk
