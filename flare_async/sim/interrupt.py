"""Ctrl-C while the command line owns the process: the run is aborted and the process ends soon.

The first SIGINT asks the run to abort. Where user code runs on the event loop itself nothing else
could stop it, so it gets a ``KeyboardInterrupt``. What has not ended after ``PATIENCE`` seconds,
or at a second SIGINT, is left behind: threads are daemons, worker processes end with their parent.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Final, Self

from flare_async.jobs.run import Run, RunStatus
from flare_async.sim.failure import INTERRUPTED

__all__ = ["PATIENCE", "Interrupts"]

PATIENCE: Final = 0.7  # seconds from the first Ctrl-C to the end, whatever happens
USER_CODE: Final = "flare_async.jobs.training"  # the module that calls it


class Interrupts:
    """Owns SIGINT inside its block; ``watch`` names the run that an interrupt aborts."""

    __slots__ = ("_before", "_leave", "_run", "count")

    def __init__(self, leave: Callable[[int], object] = os._exit) -> None:
        self._run: Run | None = None
        self._before: dict[int, object] = {}
        self._leave = leave
        self.count = 0

    def __enter__(self) -> Self:
        self._install(signal.SIGINT, self._on_interrupt)
        if hasattr(signal, "setitimer"):
            self._install(signal.SIGALRM, self._on_alarm)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def watch(self, run: Run) -> None:
        """Abort this run at an interrupt, also at one that came before."""
        self._run = run
        if self.count:
            run.abort()

    def _install(self, number: int, handler: Callable[[int, FrameType | None], None]) -> None:
        self._before[number] = signal.signal(number, handler)

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 1:
            self._abandon()
            return
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        self.on_interrupt(frame)

    def on_interrupt(self, frame: FrameType | None) -> None:
        """Act on the first SIGINT; ``frame`` is what the main thread was doing.

        Raises:
            KeyboardInterrupt: no run has begun, or user code runs on the main thread.
        """
        if self._run is None:
            raise KeyboardInterrupt
        if self._run.status is not RunStatus.RUNNING:
            self._abandon()  # the report can be left undone
        self._run.abort()
        if _in_user_code(frame):
            self._run.end(
                RunStatus.ABORTED
            )  # so its folder says so: no task survives the next line
            raise KeyboardInterrupt

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        self._abandon()

    def _abandon(self) -> None:
        where = "" if self._run is None else f"; what was reached is in {self._run.folder}"
        sys.stderr.write(f"\ninterrupted{where}\n")
        sys.stderr.flush()
        self._leave(INTERRUPTED)


def _in_user_code(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__") == USER_CODE:
            return True
        frame = frame.f_back
    return False
