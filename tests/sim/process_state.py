"""What a run must leave as it found it: the process around it."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path

import structlog


def open_files():
    """Return what the descriptors of this process are open on."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[entry.name] = os.readlink(entry)  # noqa: PTH115
        except FileNotFoundError:  # the listing's own descriptor
            continue
    return found


def children():
    """Return the ids of all child processes, zombies too."""
    return sorted(
        int(pid)
        for task in Path("/proc/self/task").iterdir()
        for pid in (task / "children").read_text().split()
    )


def held():
    """Return what a run could leak, as comparable values."""
    gc.collect()
    return {
        "files": sorted(open_files().values()),
        "children": children(),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "temporary": sorted(os.listdir(tempfile.gettempdir())),  # noqa: PTH208
    }


def configured():
    """Return what belongs to the host application, as comparable values."""
    root = logging.getLogger()
    return {
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "wakeup": _wakeup_fd(),
        "logging": (root.level, tuple(root.handlers), tuple(root.filters), logging.root.disabled),
        "structlog": structlog.is_configured(),
        "policy": type(asyncio.get_event_loop_policy()),
        "hooks": (sys.excepthook, threading.excepthook, sys.unraisablehook),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "place": (Path.cwd(), tuple(sys.argv), dict(os.environ), tuple(sys.path)),
        "limits": (sys.getrecursionlimit(), sys.getswitchinterval(), threading.stack_size()),
    }


def _wakeup_fd():
    if threading.current_thread() is not threading.main_thread():
        return -1
    number = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(number)
    return number
