"""The commands that a bench's parent sends to a process that runs an event loop."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping

__all__ = ["commands", "say"]


async def commands() -> AsyncIterator[str]:
    """Yield the lines of standard input, until its end."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    pipe, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer
    )
    try:
        while line := await reader.readline():
            yield line.decode().strip()
    finally:
        pipe.close()


def say(answer: Mapping[str, str | float]) -> None:
    """Answer the parent."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
