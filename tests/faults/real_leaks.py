"""What a real test leaves behind: tasks, descriptors, threads and children are counted."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from tests.transports.loops import LOOPS, run_on

__all__ = ["counted", "leaving_nothing"]

T = TypeVar("T")
TURNS = 500  # the system may take a moment to close a socket or to reap a thread


def counted() -> dict[str, int]:
    """Return how many descriptors, threads and children this process has."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split()
    return {
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
        "children": len(children),
    }


def leaving_nothing(main: Callable[[], Awaitable[T]], loop: str = "asyncio") -> T:
    """Run ``main()`` on a real loop; fail if it leaves more than there was (S8)."""
    results: list[T] = []

    async def whole() -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, int)  # its pool lives as long as the loop
        before = counted()
        results.append(await main())
        await loop.shutdown_default_executor()
        for _ in range(TURNS):
            after = counted()
            if all(after[name] <= before[name] for name in before):
                return
            await asyncio.sleep(0.002)
        raise AssertionError(f"before {before}, after {after}")

    run_on(LOOPS[loop], whole)
    return results[0]
