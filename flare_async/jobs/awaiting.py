"""Which coroutines of a cohort a recipe has made and never awaited: Python only warns of them."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

from flare_async.jobs.places import is_users

__all__ = ["Unawaited", "awaiting"]


@dataclass(frozen=True, slots=True)
class Made:
    """A coroutine, and the call in a user's file that made it."""

    coroutine: Coroutine[object, object, object]
    call: str


class Unawaited:
    """The coroutines of one run that nobody has begun to await, with the lines that made them."""

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: list[Made] = []

    def watch(self, coroutine: Coroutine[object, object, object], name: str) -> None:
        """Take note of what the caller's caller makes, if that is a user's file."""
        frame = sys._getframe(2)
        if is_users(frame.f_code.co_filename):
            self._made = [one for one in self._made if is_new(one)]
            place = f"{frame.f_code.co_filename}, line {frame.f_lineno}"
            self._made.append(Made(coroutine, f"cohort.{name}() in {place}"))

    def closed(self) -> list[str]:
        """Return the calls whose coroutines were never awaited, and close those."""
        left = [one for one in self._made if is_new(one)]
        self._made = []
        for one in left:
            one.coroutine.close()  # or Python warns of it when it is collected
        return [one.call for one in left]


def is_new(made: Made) -> bool:
    """Return whether nobody has begun to await a coroutine."""
    return inspect.getcoroutinestate(made.coroutine) == inspect.CORO_CREATED


class Watched(Protocol):
    """Whose coroutines are watched."""

    unawaited: Unawaited


WatchedT = TypeVar("WatchedT")


def awaiting(*names: str) -> Callable[[type[WatchedT]], type[WatchedT]]:
    """Watch what these methods of a class return; the class has an ``unawaited``."""

    def decorate(cls: type[WatchedT]) -> type[WatchedT]:
        for name in names:
            setattr(cls, name, watching(getattr(cls, name), name))
        return cls

    return decorate


def watching(
    method: Callable[..., Coroutine[object, object, object]], name: str
) -> Callable[..., Coroutine[object, object, object]]:
    """Return the method with a look at who has called it."""

    @functools.wraps(method)
    def call(self: object, *args: object, **given: object) -> Coroutine[object, object, object]:
        made = method(self, *args, **given)
        cast("Watched", self).unawaited.watch(made, name)
        return made

    return call
