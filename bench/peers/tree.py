"""A program and all processes that come of it: how long it took, and the most memory at once."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

__all__ = ["MARK", "Watched", "end_tree", "tree_of", "watch"]

MARK: Final = "FLARE_BENCH_TREE"  # in the environment: also of those that outlive their parent
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
PROC: Final = Path("/proc")
INTERVAL: Final = 0.1
ENDING: Final = 5.0


@dataclass(frozen=True, slots=True)
class Watched:
    """How a program ended: its status, its output, seconds, and bytes of resident memory.

    ``peak`` is the sum over all its processes at its largest, in which pages that several of them
    share count in each; ``largest`` is the most that one had, which no sample can miss but the last
    moment's. ``late`` says that its time was up.
    """

    status: int
    output: str
    seconds: float
    peak: int
    largest: int
    late: bool = False


@dataclass(slots=True)
class Sizes:
    """The largest sizes so far."""

    sum: int = 0
    largest: int = 0

    def look(self, mark: str) -> None:
        """Look at a tree."""
        pids = tree_of(mark)
        self.largest = max([self.largest, *map(high_water, pids)])
        self.sum = max(self.sum, self.largest, sum(map(resident, pids)))


def watch(
    command: Sequence[str], mark: str, log: Path, *, timeout: float, env: Mapping[str, str]
) -> Watched:
    """Run a program to its end, at most ``timeout`` seconds, and end what it leaves behind.

    An interrupt ends all of it as well.
    """
    began = time.perf_counter()
    sizes = Sizes()
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env={**os.environ, **env, MARK: mark},
        )
        try:
            late = not ended(process, began + timeout, partial(sizes.look, mark))
            seconds = time.perf_counter() - began
        finally:
            end_tree(mark)
            status = process.wait()
    text = log.read_text("utf-8", "replace")
    return Watched(status, text, seconds, sizes.sum, sizes.largest, late)


def ended(process: subprocess.Popen[bytes], until: float, look: Callable[[], None]) -> bool:
    """Look every ``INTERVAL`` until the process has ended; False when its time is up before."""
    end = os.pidfd_open(process.pid)  # readable at that very moment: a poll would be late
    try:
        look()  # at a program that is through in no time as well
        while not select.select([end], [], [], INTERVAL)[0]:
            look()
            if time.perf_counter() > until:
                return False
        return True
    finally:
        os.close(end)


def tree_of(mark: str) -> list[int]:
    """Return the processes that were started with that mark, whoever their parent is now."""
    wanted = f"{MARK}={mark}".encode()
    return [pid for pid in numbers() if wanted in environment(pid)]


def end_tree(mark: str) -> None:
    """End what is left of a tree; waits until nothing is, at most ``ENDING`` seconds."""
    until = time.perf_counter() + ENDING
    while (left := tree_of(mark)) and time.perf_counter() < until:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(INTERVAL)


def numbers() -> list[int]:
    """Return the ids of all processes."""
    return [int(path.name) for path in PROC.iterdir() if path.name.isdigit()]


def environment(pid: int) -> bytes:
    """Return what a process was started with; nothing where we may not look."""
    try:
        return (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return b""


def high_water(pid: int) -> int:
    """Return the most resident memory that a process has had so far; 0 when it is gone."""
    try:
        lines = (PROC / str(pid) / "status").read_text("ascii", "replace").splitlines()
    except OSError:
        return 0
    found = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return next((int(kib) * 1024 for kib in found if kib.isdigit()), 0)


def resident(pid: int) -> int:
    """Return a process's resident memory; 0 when it is gone."""
    try:
        return int((PROC / str(pid) / "statm").read_text("ascii").split()[1]) * PAGE
    except (OSError, IndexError, ValueError):
        return 0
