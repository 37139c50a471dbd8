"""Every number that bounds a wait or a buffer, in one validated dataclass.

A wait is bounded by *progress*: the clock of ``stall_timeout`` restarts with every byte that is
acknowledged, so a slow transfer never fails and a stopped one always does.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from flare_async.errors import LimitsError

__all__ = ["KIB", "MIB", "Limits"]

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a process may hold and how long it may wait; contradictions are refused together.

    Waits are seconds, sizes are bytes, the rest are counts.

    Raises:
        LimitsError: values contradict each other; ``problems`` lists all of them.
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
    control_bytes: int = 64 * KIB  # one control message
    control_items: int = 4096  # values in one control message
    depth: int = 32  # nesting of one control message
    channels: int = 1024  # open channels of one link
    handshakes: int = 1024  # accepted links whose hello is outstanding; beyond, the oldest goes
    sessions: int = 16_384  # of one role; without room those go first that have no link
    min_rate: int = 0  # bytes a second below which a transfer is given up; 0 is never
    max_resends: int = 3  # re-pulls of one transfer without progress

    def __post_init__(self) -> None:
        problems = [*self._sign_problems(), *self._order_problems()]
        if problems:
            raise LimitsError(problems)

    def _sign_problems(self) -> list[str]:
        may_be_zero = {"min_rate", "max_resends", "staging_bytes"}
        found = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if not isinstance(value, int | float) or isinstance(value, bool) or value != value:
                found.append(f"{field.name}={value!r} is not a number")
            elif value < 0 or (value == 0 and field.name not in may_be_zero):
                found.append(f"{field.name}={value!r} must be positive")
        return found

    def _order_problems(self) -> list[str]:
        try:
            rules = [
                (self.stall_timeout >= 1, "stall_timeout below 1 s would reset healthy channels"),
                (
                    self.frame_bytes >= 4 * KIB,
                    "frame_bytes below 4096 leaves no room for a frame's own parts",
                ),
                (self.frame_bytes <= self.window_bytes, "frame_bytes exceeds window_bytes"),
                (self.window_bytes <= self.link_bytes, "window_bytes exceeds link_bytes"),
                (self.link_bytes <= self.process_bytes, "link_bytes exceeds process_bytes"),
                (self.control_bytes <= self.frame_bytes, "control_bytes exceeds frame_bytes"),
                (
                    16 + 13 * self.channels <= self.control_bytes,
                    "control_bytes cannot hold the positions of all channels (13 bytes each)",
                ),
                (self.send_timeout <= self.session_grace, "send_timeout exceeds session_grace"),
                (
                    3 * self.heartbeat_interval <= self.session_grace,
                    "three heartbeat_intervals exceed session_grace",
                ),
                (self.retry_cap <= self.session_grace, "retry_cap exceeds session_grace"),
                (
                    self.lease is None or self.lease >= self.stall_timeout,
                    "lease is shorter than stall_timeout",
                ),
            ]
        except TypeError:  # a value that is no number is named by the other check
            return []
        return [problem for holds, problem in rules if not holds]
