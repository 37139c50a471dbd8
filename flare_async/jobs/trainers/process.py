"""A supervised process as its client sees it: started, told to end, gone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio

from flare_async.jobs.trainers.launch import Launch
from flare_async.jobs.trainers.output import Forwarder

__all__ = ["SupervisedProcess"]

PROGRAM: Final = str(Path(__file__).absolute().with_name("supervisor.py"))
SLACK: Final = 6.0  # seconds after the grace in which a supervisor has killed what can be killed


class _Pipes(asyncio.SubprocessProtocol):
    """Drains both streams and takes note of the end."""

    def __init__(self, output: Forwarder) -> None:
        self.output = output
        self.exited = asyncio.Event()
        self.closed = asyncio.Event()
        self._open = {1, 2}

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Pass on what was printed."""
        self.output.add(fd, data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """Take note that nobody can print any more."""
        self._open.discard(fd)
        if not self._open:
            self.closed.set()

    def process_exited(self) -> None:
        """Take note that the supervisor is gone."""
        self.exited.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that nothing more comes."""
        self.exited.set()
        self.closed.set()


class SupervisedProcess:
    """A command below a supervisor. ``ended`` is set when it has ended, with its ``status``.

    ``grace`` is how long it may take between SIGTERM and SIGKILL; ``limits`` are its rlimits.
    """

    def __init__(self, output: Forwarder, grace: float, limits: Mapping[str, int]) -> None:
        self._settings = json.dumps({"grace": grace, "limits": dict(limits)})
        self._grace = grace
        self._link: socket.socket | None = None
        self._said = b""
        self._transport: asyncio.SubprocessTransport | None = None
        self._pipes = _Pipes(output)
        self.ended = asyncio.Event()
        self.status: int | None = None  # None with ``ended``: its supervisor is gone
        self.problem = 0  # the error number of a command that could not be started

    @property
    def pid(self) -> int | None:
        """The supervisor, which leads the session and the process group."""
        return None if self._transport is None else self._transport.get_pid()

    @property
    def has_ended(self) -> bool:
        """Whether the command has ended, or was never started."""
        return self._transport is None or self.ended.is_set()

    async def start(self, launch: Launch) -> None:
        """Start the supervisor, which starts the command; what comes of that it tells.

        Cancelling leaves nothing: who was started finds its socket closed.

        Raises:
            OSError: the system refuses another process.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            self._transport, _ = await loop.subprocess_exec(
                lambda: self._pipes,
                *(sys.executable, "-I", "-S", PROGRAM, str(theirs.fileno()), str(os.getpid())),
                *(self._settings, *launch.command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env=dict(launch.environment),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._link = ours
        loop.add_reader(ours.fileno(), self._hear)

    def end(self, *, at_once: bool = False) -> None:
        """Let the supervisor end everything: SIGTERM, and SIGKILL after the grace or at once."""
        if self._link is not None:
            with suppress(OSError):
                self._link.send(b"k" if at_once else b"t")

    async def gone(self) -> None:
        """Wait until nothing of the process is left and its output was read."""
        await self._pipes.exited.wait()
        await self._pipes.closed.wait()

    async def drained(self) -> None:
        """Wait until nobody can print any more."""
        await self._pipes.closed.wait()

    async def stop(self) -> None:
        """End everything and release what belongs to it; harmless more than once.

        Waits at most the grace and a few seconds, also when it is cancelled.
        """
        if self._transport is None:
            return
        with anyio.CancelScope(shield=True):
            self.end()
            with anyio.move_on_after(self._grace + SLACK):
                await self.gone()
            self._release()

    def _release(self) -> None:
        transport, link = self._transport, self._link
        self._transport = self._link = None
        if link is not None:
            asyncio.get_running_loop().remove_reader(link.fileno())
            link.close()
        if transport is not None:
            if not self._pipes.exited.is_set():  # it does not do what it is told
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(transport.get_pid(), signal.SIGKILL)
            transport.close()
        self._pipes.output.close()
        self.ended.set()

    def _hear(self) -> None:
        assert self._link is not None
        data = b""
        with suppress(BlockingIOError, ConnectionError):
            data = self._link.recv(4096)
        if not data:
            asyncio.get_running_loop().remove_reader(self._link.fileno())
            self._supervisor_gone()
            return
        *lines, self._said = (self._said + data).split(b"\n")
        for line in lines:
            word, _, number = line.partition(b" ")
            if word == b"exit":
                self.status = int(number)
                self.ended.set()
            elif word == b"failed":
                self.problem = int(number)
                self.ended.set()

    def _supervisor_gone(self) -> None:
        pid = self.pid
        if not self.ended.is_set() and pid is not None:  # it was killed: its group has no leader
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        self.ended.set()
