"""One worker process as its parent sees it: start, exchange messages, notice its end, stop it."""

from __future__ import annotations

import asyncio
import codecs
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio

from flare_async.errors import RemoteProtocolError
from flare_async.jobs.spawners.messages import MAX_MESSAGE, PREFIX, Setup, encode

__all__ = ["Death", "WorkerProcess", "described_status"]

MODULE: Final = "flare_async.jobs.spawners.worker"
ROOT: Final = str(Path(__file__).absolute().parents[3])  # where flare_async is imported from
TAIL_BYTES: Final = 16 * 1024
TAIL_LINES: Final = 20
READ: Final = 64 * 1024


class Death(Exception):
    """The worker ended while its answer was awaited."""

    def __init__(self, status: str, tail: Sequence[str]) -> None:
        super().__init__(status)
        self.status = status
        self.tail = tuple(tail)


class Output(asyncio.SubprocessProtocol):
    """Passes what the worker prints on to our standard error and remembers its end."""

    def __init__(self, link: socket.socket) -> None:
        self.exited = asyncio.Event()
        self.closed = asyncio.Event()
        self._link = link
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._tail: deque[bytes] = deque()
        self._size = 0

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Take what was printed: standard output is for our data, so all goes to error."""
        text = self._decoder.decode(data)
        with suppress(OSError, ValueError):  # closed, or nobody reads it
            if sys.stderr is not None:
                sys.stderr.write(text)
        self._tail.append(data)
        self._size += len(data)
        while self._size - len(self._tail[0]) >= TAIL_BYTES:
            self._size -= len(self._tail.popleft())

    def process_exited(self) -> None:
        """Note that the process is gone; pipes may still hold output."""
        self.exited.set()
        with suppress(OSError):  # wakes whoever reads: a child of the worker may hold its end open
            self._link.shutdown(socket.SHUT_RDWR)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the process is gone and its output is read."""
        self.closed.set()

    def last_lines(self) -> list[str]:
        """Return the end of the output."""
        text = b"".join(self._tail)[-TAIL_BYTES:].decode(errors="replace")
        return text.splitlines()[-TAIL_LINES:]


class WorkerProcess:
    """A worker; after ``stop`` it is started anew by the next ``start``.

    Args:
        shutdown_timeout: seconds for each step of stopping: asked, terminated, killed.
    """

    def __init__(self, shutdown_timeout: float) -> None:
        self._patience = shutdown_timeout
        self._link: socket.socket | None = None
        self._transport: asyncio.SubprocessTransport | None = None
        self._output: Output | None = None

    @property
    def pid(self) -> int | None:
        """The process id while there is a process."""
        return None if self._transport is None else self._transport.get_pid()

    async def start(self) -> None:
        """Start the process unless one runs; it is ready when its first answer comes.

        Waits for what is left of one that has ended meanwhile, as ``stop`` does.

        Raises:
            OSError: the system refuses another process.
        """
        if self._output is not None and self._output.exited.is_set():
            await self.stop()
        if self._transport is not None:
            return
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            await self._spawn(ours, theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._link = ours
        with suppress(ConnectionError):  # if it is dead already, the first exchange reports it
            await self._send(ours, encode(Setup(tuple(sys.path), os.environ.get("PYTHONPATH"))), ())

    async def _spawn(self, ours: socket.socket, theirs: socket.socket) -> None:
        path = os.environ.get("PYTHONPATH")
        self._transport, self._output = await asyncio.get_running_loop().subprocess_exec(
            lambda: Output(ours),
            *(sys.executable, "-P", "-m", MODULE, str(theirs.fileno()), str(os.getpid())),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,  # its own children can be ended with it
            env={**os.environ, "PYTHONPATH": os.pathsep.join([ROOT, *([path] if path else [])])},
        )

    async def exchange(self, message: bytes, fds: Sequence[int]) -> bytearray:
        """Send a message with descriptors and return the answer.

        Waits for ever: training may take as long as it needs. Cancelling leaves an answer under
        way, so the worker must be stopped.

        Raises:
            Death: the worker ended.
            RemoteProtocolError: the answer is longer than any message of ours.
        """
        assert self._link is not None
        try:
            await self._send(self._link, message, fds)
            length = int.from_bytes(await self._exactly(self._link, PREFIX), "big")
            if length > MAX_MESSAGE:
                raise RemoteProtocolError("worker_message", f"{length} bytes announced")
            return await self._exactly(self._link, length)
        except (ConnectionError, EOFError):
            pass
        raise await self._death()

    async def _send(self, link: socket.socket, message: bytes, fds: Sequence[int]) -> None:
        # The worker has read all before it answered, so these few bytes always find room.
        socket.send_fds(link, [message[:PREFIX]], fds)
        await asyncio.get_running_loop().sock_sendall(link, memoryview(message)[PREFIX:])

    async def _exactly(self, link: socket.socket, length: int) -> bytearray:
        loop = asyncio.get_running_loop()
        data = bytearray(length)
        view = memoryview(data)
        done = 0
        while done < length:
            got = await loop.sock_recv_into(link, view[done:])
            if got == 0:
                raise EOFError
            done += got
        return data

    async def _death(self) -> Death:
        assert self._transport is not None
        assert self._output is not None
        await self.end(gently=True)
        code = self._transport.get_returncode()
        return Death(described_status(code), self._output.last_lines())

    async def end(self, *, gently: bool) -> None:
        """Make the process end: ask it (if ``gently``), terminate it, kill it.

        Each step waits at most ``shutdown_timeout``; cancelling the wait goes on to the next.
        """
        output, link = self._output, self._link
        if output is None or link is None:
            return
        with suppress(OSError):
            link.shutdown(socket.SHUT_WR)
        with anyio.CancelScope(shield=True):
            for number in ([0] if gently else []) + [signal.SIGTERM, signal.SIGKILL]:
                if output.exited.is_set():
                    break
                self._signal_group(number)
                with anyio.move_on_after(self._patience):
                    await output.exited.wait()
            self._signal_group(signal.SIGKILL)  # what it started and left behind
            with anyio.move_on_after(self._patience):
                await output.closed.wait()

    async def stop(self, *, gently: bool = False) -> None:
        """End the process and release what belongs to it; harmless when there is none."""
        try:
            await self.end(gently=gently)
        finally:
            if self._transport is not None:
                self._signal_group(signal.SIGKILL)
                self._transport.close()
            if self._link is not None:
                self._link.close()
            self._transport = self._output = self._link = None

    def _signal_group(self, number: int) -> None:
        pid = self.pid
        if pid is not None and number:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, number)


def described_status(code: int | None) -> str:
    """Return how a process ended, in words that follow its name."""
    if code is None:
        return "does not end"
    if code >= 0:
        return f"exited with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    hint = ", perhaps because memory ran out" if -code == signal.SIGKILL else ""
    return f"was killed by signal {-code} ({name}){hint}"
