"""Every number that bounds a wait or a buffer, in one validated dataclass.

A wait is bounded by *progress*: the clock of ``stall_timeout`` restarts with every byte that is
acknowledged, so a slow transfer never fails and a stopped one always does.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from typing import Final

from flare_async.arguments import configured
from flare_async.errors import LimitsError

__all__ = ["KIB", "MIB", "Limits"]

KIB = 1024
MIB = 1024 * KIB


@configured()
@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a process may hold and how long it may wait; contradictions are refused together.

    Waits are finite seconds, sizes are whole bytes, the rest are whole counts.

    Raises:
        LimitsError: values are out of range or contradict each other; ``problems`` lists all.
        UnknownArgument: there is no limit of that name.
    """

    handshake_timeout: float = 5.0  # connect, TLS and hello
    heartbeat_interval: float = 5.0  # ping on an idle link; silence for three of them is a loss
    send_timeout: float = 30.0  # a link that accepts no byte
    stall_timeout: float = 60.0  # a channel whose acknowledgements do not advance
    retry_cap: float = 60.0  # the longest back-off between two tries
    session_grace: float = 300.0  # how long a session survives without a link
    start_timeout: float = 60.0  # deployment and start acknowledgement of a site
    lease: float | None = None  # how long a task may stay with a site without a sign of progress
    trainer_idle_timeout: float = 300.0  # no processor time, no byte, no log of a trainer
    shutdown_timeout: float = 5.0  # graceful close, then force

    frame_bytes: int = 1 * MIB  # the longest payload of one frame that is accepted
    window_bytes: int = 4 * MIB  # credit of one channel
    link_bytes: int = 16 * MIB  # credit of one link, all channels together
    process_bytes: int = 256 * MIB  # credit of all links of this process
    staging_bytes: int = 64 * MIB  # updates held in memory before they spill to a file
    memory_bytes: int | None = None  # refuse a job that would need more
    carried_bytes: int = 256 * KIB  # tensors that travel with their task or result; 0 is none
    control_bytes: int = 64 * KIB  # one control message
    control_items: int = 4096  # values in one control message
    depth: int = 32  # nesting of one control message
    channels: int = 1024  # open channels of one link
    handshakes: int = 1024  # accepted links whose hello is outstanding; beyond, the oldest goes
    sessions: int = 16_384  # of one role that may live at once; detached ones go first
    min_rate: int = 0  # bytes a second below which a transfer is given up; 0 is never
    max_resends: int = 3  # re-pulls of one transfer without progress

    def __post_init__(self) -> None:
        wrong = self._wrong_values()
        problems = [*wrong.values(), *self._contradictions(frozenset(wrong))]
        if problems:
            raise LimitsError(problems)

    def _wrong_values(self) -> dict[str, str]:
        """Return what is wrong with values alone, by field."""
        found = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.default is None:
                continue
            wait = str(field.type).startswith("float")
            problem = _wait_problem(value) if wait else _count_problem(value, field.name)
            if problem:
                found[field.name] = f"{field.name}={value!r} {problem}"
        return found

    def _contradictions(self, wrong: frozenset[str]) -> list[str]:
        """Return what does not fit together, among the fields that are right by themselves."""
        found = [
            f"{name}={getattr(self, name)!r} {problem}"
            for name, least, problem in _LEAST
            if name not in wrong and getattr(self, name) < least
        ]
        for name, (factor, more), other, problem in _AT_MOST:
            low, high = getattr(self, name), getattr(self, other)
            if name in wrong or other in wrong or low is None or high is None:
                continue
            if factor * low + more > high:
                found.append(f"{name}={low!r}, {other}={high!r}: {problem}")
        return found


def _wait_problem(value: object) -> str:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "is not a number"
    return "" if 0 < value <= sys.float_info.max else "must be positive and finite"


def _count_problem(value: object, name: str) -> str:
    if type(value) is not int:
        return "is not a whole number"
    return "" if value > 0 or (value == 0 and name in _MAY_BE_ZERO) else "must be positive"


_MAY_BE_ZERO: Final = frozenset({"carried_bytes", "min_rate", "max_resends", "staging_bytes"})
_LEAST: Final = (
    ("stall_timeout", 1, "below 1 s would reset healthy channels"),
    ("frame_bytes", 4 * KIB, "below 4096 leaves no room for a frame's own parts"),
)
_AS_IT_IS: Final = (1, 0)
# What may be at most another one, after it was multiplied by a factor and a number was added.
_AT_MOST: Final = (
    ("frame_bytes", _AS_IT_IS, "window_bytes", "a frame exceeds a window"),
    ("window_bytes", _AS_IT_IS, "link_bytes", "a window exceeds a link's credit"),
    ("link_bytes", _AS_IT_IS, "process_bytes", "a link's credit exceeds the process's"),
    ("control_bytes", _AS_IT_IS, "frame_bytes", "a control message exceeds a frame"),
    ("channels", (13, 16), "control_bytes", "no room for the positions of all, 13 bytes each"),
    ("handshake_timeout", _AS_IT_IS, "session_grace", "no session could get another link"),
    ("send_timeout", _AS_IT_IS, "session_grace", "a stuck link outlives its session"),
    ("heartbeat_interval", (3, 0), "session_grace", "three intervals exceed the grace"),
    ("retry_cap", _AS_IT_IS, "session_grace", "a pause outlives its session"),
    ("stall_timeout", _AS_IT_IS, "lease", "the lease is shorter than the patience"),
)
