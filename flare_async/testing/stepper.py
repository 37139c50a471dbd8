"""Awaits something step by step and cancels its own task at one of the steps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Literal, TypeAlias, TypeVar

from flare_async.testing.story import await_chain

__all__ = ["Moment", "Stepper"]

Moment: TypeAlias = Literal["early", "late"]
Resume: TypeAlias = Callable[[Any], Any]

T = TypeVar("T")


class Stepper:
    """Counts the suspensions of an awaitable, and cancels its task at the ``turn``-th, from 0.

    ``early`` is before anything else happens. ``late`` is in the very turn in which the task is
    woken, when what it waited for has already been given to it. ``struck`` tells where the task
    stood when it was cancelled; it stays empty when the task had ended before.
    """

    def __init__(self, turn: int | None = None, moment: Moment = "early") -> None:
        self.turns = 0
        self.struck = ""
        self._turn = turn
        self._moment = moment
        self._awaitable: object = None

    async def run(self, awaitable: Awaitable[T]) -> T:
        """Await it to its end; waits for what it waits for."""
        self._awaitable = awaitable
        return await _Steps(awaitable, self)

    def suspended(self, waiting: object) -> None:
        """Take note of a suspension; ``waiting`` is what the task waits for."""
        turn, self.turns = self.turns, self.turns + 1
        task = asyncio.current_task()
        if turn != self._turn or task is None:
            return

        def strike(_: object = None) -> None:
            site = await_chain(self._awaitable) or "nowhere"
            if task.cancel():
                self.struck = site

        if self._moment == "late" and isinstance(waiting, asyncio.Future):
            waiting.add_done_callback(strike)
        else:
            asyncio.get_running_loop().call_soon(strike)


class _Steps(Awaitable[T]):
    def __init__(self, awaitable: Awaitable[T], stepper: Stepper) -> None:
        self._awaitable = awaitable
        self._stepper = stepper

    def __await__(self) -> Generator[Any, Any, T]:
        inner: Any = self._awaitable.__await__()
        send: Resume = getattr(inner, "send", lambda _: next(inner))
        resume, value = send, None
        while True:
            try:
                waiting = resume(value)
            except StopIteration as done:
                result: T = done.value
                return result
            self._stepper.suspended(waiting)
            try:
                resume, value = send, (yield waiting)
            except BaseException as error:  # noqa: BLE001 - handed on to the awaitable
                resume, value = inner.throw, error
