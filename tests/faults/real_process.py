"""A child process that runs one of ``real_child``'s programs, and the lines it says."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

__all__ = ["Child", "child"]

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 18.0


class Child:
    """A running child; every wait for its words is bounded."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def words(self) -> list[str]:
        """Return its next line, in words."""
        with anyio.fail_after(SECONDS):
            line = await self._process.stdout.readline()
        if not line:
            errors = (await self._process.stderr.read()).decode()
            raise EOFError(f"the child has ended: {errors[-2000:]}")
        return line.decode().split()

    def tell(self, word: str) -> None:
        """Send it a line."""
        self._process.stdin.write(f"{word}\n".encode())

    def stop(self) -> None:
        """Stop it where it stands."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once; harmless when it has ended."""
        if self._process.returncode is None:
            self._process.kill()

    async def ended(self) -> int:
        """Wait for its end; return its exit code."""
        with anyio.fail_after(SECONDS):
            return await self._process.wait()


@asynccontextmanager
async def child(program, *arguments, loop="asyncio"):
    """Run a program; it is killed if it has not ended with the block."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.real_child", loop, program, *arguments),
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        cwd=ROOT,
    )
    try:
        yield Child(process)
    finally:
        if process.returncode is None:
            process.kill()
        process.stdin.close()
        with anyio.CancelScope(shield=True):
            await process.wait()
            process._transport.close()
