"""Tells a script that hangs from one that computes: by processor time and by its calls."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from types import FrameType
from typing import Final

__all__ = ["IdleWatch", "cpu_clock", "cpu_seconds", "standing_at"]

LEAST_SHARE: Final = 0.01  # of one core; a thread that polls uses less
LOOKS: Final = 8  # so often within the timeout
LATE: Final = 1.0  # seconds that a look may come late on a busy machine


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen of a script at one moment; ``cpu`` are seconds, ``calls`` a count."""

    at: float
    cpu: float
    calls: int


class IdleWatch:
    """Says whether a script has done nothing for ``timeout`` seconds.

    It has when it made no call and its thread used at most 1 % of a core. That is noticed at most
    an eighth of the timeout late. Where a thread's processor time is not known nothing is idle; nor
    while nobody looked: then this process was stopped, or other code held the interpreter.
    """

    __slots__ = ("_samples", "_timeout")

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._samples: deque[Sample] = deque()

    @property
    def interval(self) -> float:
        """Seconds between two looks."""
        return self._timeout / LOOKS

    def is_idle(self, now: float, cpu: float | None, calls: int) -> bool:
        """Take note of what is seen now; return whether that makes the script idle."""
        if cpu is None:
            self._samples.clear()
            return False
        samples = self._samples
        if samples and now - samples[-1].at > 2 * self.interval + LATE:
            samples.clear()
        samples.append(Sample(now, cpu, calls))
        while len(samples) > 1 and samples[1].at <= now - self._timeout:
            samples.popleft()
        first = samples[0]
        if first.at > now - self._timeout or first.calls != calls:
            return False
        return cpu - first.cpu <= LEAST_SHARE * (now - first.at)


def cpu_clock() -> int | None:
    """Return the clock of this thread's processor time; None where there is none (macOS)."""
    clock_of = getattr(time, "pthread_getcpuclockid", None)
    if clock_of is None:
        return None
    try:
        clock: int = clock_of(threading.get_ident())
    except OSError:
        return None
    return clock


def cpu_seconds(clock: int | None) -> float | None:
    """Return the processor time of a thread; None when it is not known, or the thread is gone."""
    if clock is None:
        return None
    try:
        return time.clock_gettime(clock)
    except OSError:
        return None


def standing_at(thread: int, path: str) -> str:
    """Return file, line and function where a thread stands, in the script if it is in there."""
    frame: FrameType | None = sys._current_frames().get(thread)
    place = frame
    while frame is not None:
        if frame.f_code.co_filename == path:
            place = frame
            break
        frame = frame.f_back
    if place is None:
        return "an unknown line"
    return f"{place.f_code.co_filename}:{place.f_lineno} in {place.f_code.co_name}"
