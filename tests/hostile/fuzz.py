"""Runs the fuzzers of one seed in this process, with its memory and its audit events watched."""

from __future__ import annotations

import gc
import hashlib
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from tests.hostile.fuzz_headers import HeaderFuzz
from tests.hostile.fuzz_messages import MessageFuzz
from tests.hostile.fuzz_sessions import SessionFuzz

__all__ = ["FUZZERS", "Finding", "Fuzzer", "Outcome", "Watch", "fuzz", "replay"]

FORBIDDEN: Final = frozenset({"import", "exec", "compile", "os.system", "os.fork", "os.exec"})
FORBIDDEN_FAMILIES: Final = (
    *("subprocess.", "socket.", "ctypes.", "marshal.", "pickle.", "os.posix_spawn", "shutil."),
)
WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
OTHERS_SHARE: Final = 5  # frames for each message and for each header


class Fuzzer(Protocol):
    """Numbered cases of one kind."""

    name: str
    tally: Counter[str]

    def __init__(self, seed: int) -> None: ...

    def case(self, number: int) -> int:
        """Run one; return what it counts for."""


FUZZERS: Final[dict[str, type[Fuzzer]]] = {
    made.name: made for made in (SessionFuzz, MessageFuzz, HeaderFuzz)
}


class Finding(Exception):
    """A case that ended in anything but a typed error; the text says how to run it alone."""


class Watch:
    """Notes audit events that reading data never needs, while it is active.

    A hook cannot be removed, so this belongs into a process of its own.
    """

    def __init__(self) -> None:
        self.active = False
        self.seen: list[str] = []
        sys.addaudithook(self._hear)

    def __enter__(self) -> None:
        self.active = True

    def __exit__(self, *_: object) -> None:
        self.active = False

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.active and _is_forbidden(event, arguments) and len(self.seen) < 20:
            self.seen.append(f"{event} {arguments!r:.100}")


def _is_forbidden(event: str, arguments: tuple[object, ...]) -> bool:
    if event == "open":
        _, mode, flags = arguments
        words = isinstance(mode, str) and any(letter in mode for letter in "wax+")
        return words or (isinstance(flags, int) and bool(flags & WRITES))
    return event in FORBIDDEN or event.startswith(FORBIDDEN_FAMILIES)


@dataclass(slots=True)
class Outcome:
    """What came of a run; ``digest`` is the same for the same seed and numbers."""

    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    grown_bytes: int = 0
    forbidden: list[str] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """A short digest of all counts."""
        return hashlib.sha256(repr(sorted(self.counts.items())).encode()).hexdigest()[:16]


def fuzz(seed: int, frames: int, watch: Watch | None = None) -> Outcome:
    """Judge at least so many frames, and a fifth as many messages and headers each.

    Raises:
        Finding: a case failed.
    """
    fuzzers = [made(seed) for made in FUZZERS.values()]
    outcome = Outcome(seed)
    began, before = time.perf_counter(), resident_bytes()
    with watch or _Unwatched():
        for fuzzer in fuzzers:
            _run(fuzzer, seed, frames if fuzzer.name == "sessions" else frames // OTHERS_SHARE)
    outcome.seconds = time.perf_counter() - began
    gc.collect()
    outcome.grown_bytes = resident_bytes() - before
    outcome.forbidden = watch.seen if watch else []
    for fuzzer in fuzzers:
        outcome.counts += fuzzer.tally
    return outcome


def replay(seed: int, kind: str, number: int) -> Counter[str]:
    """Run one case alone; return its counts. What it raises leaves as it is."""
    fuzzer = FUZZERS[kind](seed)
    fuzzer.case(number)
    return fuzzer.tally


class _Unwatched:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def _run(fuzzer: Fuzzer, seed: int, count: int) -> None:
    judged = number = 0
    while judged < count:
        try:
            judged += fuzzer.case(number)
        except Exception as exc:
            where = f"--seed {seed} --replay {fuzzer.name}:{number}"
            raise Finding(
                f"{type(exc).__name__}: {exc!s:.300}; python -m bench.fuzz {where}"
            ) from exc
        number += 1


def resident_bytes() -> int:
    """Return this process's resident memory; 0 where the system does not say."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0
    return int(statm.read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
