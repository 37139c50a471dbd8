"""Train functions whose first worker dies at some stage; loaded by workers by this file's path."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

from flare_async import FLModel

__all__ = ["train"]


def die():
    """End this process as the kernel's memory killer does."""
    os.kill(os.getpid(), signal.SIGKILL)


def write_half(file, tensors):
    """Write a part of the update, and die."""
    os.pwrite(file.fileno(), bytes(next(iter(tensors.values())))[:4], 0)
    die()


def send_half(answer):
    """Send a part of the answer, and die."""
    with socket.socket(fileno=os.dup(int(sys.argv[1]))) as link:
        link.sendall(b"\0\0")
    die()


def train(model, site):
    """Add one; the first time, die at the stage that the configuration names."""
    mark = Path(site.config["mark"])
    if not mark.exists():
        mark.touch()
        worker = sys.modules["__main__"]
        match site.config["stage"]:
            case "in its task":
                die()
            case "while it writes its update":
                worker.write_tensors = write_half
            case "while it sends its answer":
                worker.encode = send_half  # from its next answer on
    return FLModel(params={name: value + 1 for name, value in model.params.items()})
