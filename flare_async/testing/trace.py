"""The trace of a simulation as a running hash: whatever its length, it takes no memory."""

from __future__ import annotations

import hashlib
from typing import TypeAlias

__all__ = ["HashedTrace", "Trace", "hashed"]


class HashedTrace:
    """SHA-256 over all steps, the same as ``SimLoop.trace_hash`` of a list of them."""

    __slots__ = ("_digest", "steps")

    def __init__(self) -> None:
        self.steps = 0
        self._digest = hashlib.sha256()

    def append(self, step: tuple[float, str, str], /) -> None:
        """Take the next step."""
        when, name, label = step
        self.steps += 1
        self._digest.update(f"{when.hex()} {name} {label}\n".encode())

    def hexdigest(self) -> str:
        """Return the hash of the steps so far."""
        return self._digest.hexdigest()


# Virtual time, task name and coroutine of every step.
Trace: TypeAlias = list[tuple[float, str, str]] | HashedTrace


def hashed(trace: Trace) -> HashedTrace:
    """Return a trace as its hash."""
    if isinstance(trace, HashedTrace):
        return trace
    running = HashedTrace()
    for step in trace:
        running.append(step)
    return running
