"""Memory that was touched before: ``python -m bench.peers.warm BYTES``.

A virtual machine may have to ask its host for each page that it touches first, or first again after
it was idle. Who runs first then pays for all; so every program is preceded by one that touches as
much as any of them needs.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import numpy as np

__all__ = ["touch"]

STEP: Final = 64 * 2**20
HELD: Final = 0.8  # of what is available


def touch(nbytes: int) -> None:
    """Touch that much memory, or most of what there is, in a process of its own."""
    most = int(available() * HELD)
    command = [sys.executable, "-m", "bench.peers.warm", str(min(nbytes, most))]
    subprocess.run(command, check=False)


def available() -> int:
    """Return how much memory could be used now; 0 where the system does not say."""
    table = Path("/proc/meminfo")
    lines = table.read_text("ascii").splitlines() if table.exists() else []
    rows = [line.split() for line in lines if line.startswith("MemAvailable:")]
    return int(rows[0][1]) * 1024 if rows else 0


def main() -> None:
    """Touch as many bytes as the command line says."""
    left, held = int(sys.argv[1]), []
    while left > 0:
        held.append(np.full(min(left, STEP), 1, np.uint8))
        left -= STEP


if __name__ == "__main__":
    main()
