"""What a reader must know of the machine to judge a figure; nothing that identifies it."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import flare_async

__all__ = ["machine_facts"]

PACKAGES: Final = ("anyio", "blake3", "numpy", "uvloop")


def machine_facts() -> dict[str, str | int | float]:
    """Return processor, cores, memory, load, system and versions."""
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "memory_gb": round(memory_bytes() / 1e9, 1),
        "load_1min": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {kernel_version()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "flare_async": flare_async.__version__,
        **{name: package_version(name) for name in PACKAGES},
    }


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """Return the machine's memory; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def kernel_version() -> str:
    """Return the kernel's version without what its builder added: that may name a site."""
    found = re.match(r"\d+(\.\d+)*", platform.release())
    return "" if found is None else found[0]


def cpu_model() -> str:
    """Return the processor's name, or its architecture where the system does not say more."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def package_version(name: str) -> str:
    """Return an installed package's version, or ``none``."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"
