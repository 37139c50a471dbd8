"""Who kept the loop to itself: user code on the loop is timed step by step and named in the log.

The watchdog and the heartbeats know *that* this process stood still and credit peers with it; only
whoever calls user code can know *whose* code it was.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

import structlog

from flare_async.net.watchdog import LAG_SECONDS
from flare_async.ports import Clock

__all__ = ["LagMonitor", "Steps", "Timed"]

T_co = TypeVar("T_co", covariant=True)
log = structlog.get_logger()


class LagMonitor:
    """Logs ``loop_blocked``, once a name, when a call keeps the loop for ``LAG_SECONDS``.

    ``blocked`` keeps the longest such call of each name, in seconds.
    """

    __slots__ = ("blocked", "now")

    def __init__(self, clock: Clock) -> None:
        self.now = clock.now
        self.blocked: dict[str, float] = {}

    def timed(self, name: str) -> Timed:
        """Time the block, which must not await."""
        return Timed(self, name)

    def steps(self, coroutine: Coroutine[Any, Any, T_co], name: str) -> Steps[T_co]:
        """Return an awaitable that runs the coroutine and times each of its steps."""
        return Steps(coroutine, self, name)

    def ended(self, name: str, began: float) -> None:
        """Take note that a step has ended."""
        seconds = self.now() - began
        if seconds > LAG_SECONDS:
            self._note(name, seconds)

    def _note(self, name: str, seconds: float) -> None:
        if name not in self.blocked:
            hint = "run it in a thread or process"
            log.warning("loop_blocked", callback=name, seconds=round(seconds, 3), hint=hint)
        self.blocked[name] = max(seconds, self.blocked.get(name, 0.0))


class Timed:
    """A block that is timed."""

    __slots__ = ("_began", "_monitor", "_name")

    def __init__(self, monitor: LagMonitor, name: str) -> None:
        self._monitor = monitor
        self._name = name
        self._began = 0.0

    def __enter__(self) -> None:
        """Begin."""
        self._began = self._monitor.now()

    def __exit__(self, *_: object) -> None:
        """End."""
        self._monitor.ended(self._name, self._began)


class Steps(Generic[T_co]):
    """Awaits a coroutine as it is; waits, is bounded and is cancelled as the coroutine is."""

    __slots__ = ("_coroutine", "_monitor", "_name")

    def __init__(
        self, coroutine: Coroutine[Any, Any, T_co], monitor: LagMonitor, name: str
    ) -> None:
        self._coroutine = coroutine
        self._monitor = monitor
        self._name = name

    def __await__(self) -> Generator[Any, Any, T_co]:
        """Run the coroutine to its end."""
        error: BaseException | None = None
        while True:
            began = self._monitor.now()
            try:
                if error is None:
                    waiting = self._coroutine.send(None)
                else:
                    waiting = self._coroutine.throw(error)
            except StopIteration as done:
                result: T_co = done.value
                return result
            finally:
                self._monitor.ended(self._name, began)
            error = None
            try:
                yield waiting
            except BaseException as caught:  # noqa: BLE001 - handed on to the coroutine
                error = caught
