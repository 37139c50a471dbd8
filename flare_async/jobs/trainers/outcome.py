"""How a trainer process ended during a task, as the typed error that its site reports."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flare_async.errors import (
    TrainerExited,
    TrainerIdle,
    TrainerNoResult,
    TrainerOutOfMemory,
    TrainerSignalled,
    TrainingFailed,
)
from flare_async.roles.text import travelling

__all__ = [
    "Ending",
    "failure_of_ending",
    "failure_of_idling",
    "failure_of_leaving",
    "failure_to_start",
    "oom_kills",
]

OUT_OF_MEMORY: Final = re.compile(r"^[\w.]*(MemoryError|OutOfMemoryError)\b")
CGROUPS: Final = Path("/sys/fs/cgroup")
INIT_HINT: Final = "it never called flare.init()"


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known of a process that ended: its status (negative: a signal), its last lines.

    ``oom_killed`` says that the system killed a process of its group for memory meanwhile,
    ``connected`` that the script had called ``init``.
    """

    status: int | None
    lines: Sequence[str]
    oom_killed: bool = False
    connected: bool = True


def failure_of_ending(site: str, ending: Ending) -> TrainingFailed:
    """Return the error for a process that ended before its task's result was there."""
    status, details = ending.status, _text(ending.lines)
    last = f"; last output: {ending.lines[-1]}" if ending.lines else ""
    if status == 0:
        why = "" if ending.connected else f" ({INIT_HINT})"
        problem = f"its trainer ended without a result for its task{why}"
        return TrainerNoResult(site, _coded(TrainerNoResult, problem), details)
    if status is None:
        problem = f"the supervisor of its trainer was ended{last}"
        return TrainerSignalled(site, _coded(TrainerSignalled, problem), details)
    if _lacked_memory(ending):
        problem = f"memory ran out: its trainer {_described(status)}{last}"
        return TrainerOutOfMemory(site, _coded(TrainerOutOfMemory, problem), details)
    if status < 0:
        hint = ", perhaps because memory ran out" if -status == signal.SIGKILL else ""
        problem = f"its trainer {_described(status)}{hint}{last}"
        return TrainerSignalled(site, _coded(TrainerSignalled, problem), details)
    problem = f"its trainer {_described(status)}{last}"
    return TrainerExited(site, _coded(TrainerExited, problem), details)


def failure_of_idling(site: str, seconds: float, lines: Sequence[str]) -> TrainingFailed:
    """Return the error for a trainer that did nothing for so long."""
    what = "its trainer used no processor time and said nothing"
    problem = f"{what} for {seconds:g} s (trainer_idle_timeout)"
    return TrainerIdle(site, _coded(TrainerIdle, problem), _text(lines))


def failure_of_leaving(site: str) -> TrainingFailed:
    """Return the error for a script that shut its context down in the middle of a task."""
    problem = "its script called shutdown() without a result for its task"
    return TrainerNoResult(site, _coded(TrainerNoResult, problem))


def failure_to_start(site: str, command: str, number: int) -> TrainingFailed:
    """Return the error for a command that the system cannot start."""
    problem = f"its trainer cannot be started: {command}: {os.strerror(number)}"
    return TrainerExited(site, _coded(TrainerExited, problem))


def oom_kills() -> int:
    """Return how often the system has killed for memory in our control group; 0 if it is unknown.

    Reads a few small files of the system.
    """
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/cgroup").read_text("ascii").splitlines():
            number, kinds, path = line.split(":", 2)
            if number == "0":
                file = CGROUPS / path.lstrip("/") / "memory.events"
            elif "memory" in kinds.split(","):
                file = CGROUPS / "memory" / path.lstrip("/") / "memory.oom_control"
            else:
                continue
            with suppress(OSError):
                return _count_in(file.read_text("ascii"))
    return 0


def _count_in(text: str) -> int:
    words = [line.split() for line in text.splitlines()]
    return sum(int(word[1]) for word in words if len(word) == 2 and word[0] == "oom_kill")


def _lacked_memory(ending: Ending) -> bool:
    if ending.status == -signal.SIGKILL:
        return ending.oom_killed
    return bool(ending.lines and OUT_OF_MEMORY.match(ending.lines[-1]))


def _described(status: int) -> str:
    if status >= 0:
        return f"exited with status {status}"
    with suppress(ValueError):
        return f"was ended by signal {-status} ({signal.Signals(-status).name})"
    return f"was ended by signal {-status}"


def _coded(kind: type[TrainingFailed], problem: str) -> str:
    return travelling(f"{kind.code}: {problem}")


def _text(lines: Sequence[str]) -> str:
    return travelling("\n".join(lines))
