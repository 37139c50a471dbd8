"""A program and all processes that come of it: how long it took, and the most memory at once."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
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

    ``peak`` is the sum over all its processes at its largest, ``largest`` the most that one had.
    """

    status: int
    output: str
    seconds: float
    peak: int
    largest: int


def watch(
    command: Sequence[str], mark: str, log: Path, *, timeout: float, env: Mapping[str, str]
) -> Watched:
    """Run a program to its end, at most ``timeout`` seconds, and end what it leaves behind."""
    began = time.perf_counter()
    peak = largest = 0
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env={**os.environ, **env, MARK: mark},
        )
        while (status := process.poll()) is None:
            sizes = [resident(pid) for pid in tree_of(mark)]
            peak = max(peak, sum(sizes))
            largest = max([largest, *sizes])
            if time.perf_counter() - began > timeout:
                process.kill()
            time.sleep(INTERVAL)
    seconds = time.perf_counter() - began
    end_tree(mark)
    return Watched(status, log.read_text("utf-8", "replace"), seconds, peak, largest)


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


def resident(pid: int) -> int:
    """Return a process's resident memory; 0 when it is gone."""
    try:
        return int((PROC / str(pid) / "statm").read_text("ascii").split()[1]) * PAGE
    except (OSError, IndexError, ValueError):
        return 0
