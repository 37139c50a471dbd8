"""Where the processes of trainers knock: a unix socket in a folder that nobody else may enter."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeAlias

import anyio
import structlog

from flare_async.errors import FlareError, RemoteProtocolError
from flare_async.jobs.threads import run_to_end
from flare_async.jobs.trainers.connection import Connection, peer_uid
from flare_async.jobs.trainers.messages import Hello
from flare_async.limits import Limits
from flare_async.net.callbacks import start_soon

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

__all__ = ["Guest", "Lobby"]

LONGEST_PATH: Final = 100  # a socket's path has room for 107 bytes
HELLO_BYTES: Final = 4096
PENDING: Final = 64  # connections that have not said who they are
PAUSE: Final = 0.2  # seconds until the system is asked again for a descriptor
log = structlog.get_logger()

Guest: TypeAlias = Callable[[Connection, int], Awaitable[None]]


class Lobby:
    """Accepts connections and leads each to the trainer whose token it brings."""

    def __init__(self, tasks: TaskGroup, limits: Limits) -> None:
        self._tasks = tasks
        self._limits = limits
        self._guests: dict[str, Guest] = {}
        self._waiting = 0
        self._folder: Path | None = None
        self._listener: socket.socket | None = None
        self._accepting = anyio.CancelScope()

    @property
    def address(self) -> str:
        """The socket's path."""
        return "" if self._folder is None else str(self._folder / "s")

    async def open(self) -> Self:
        """Make the folder and listen.

        Raises:
            OSError: the system refuses.
        """
        self._folder = await run_to_end(new_folder)
        self._listener = listener = socket.socket(socket.AF_UNIX)
        await run_to_end(lambda: listener.bind(self.address))
        listener.listen(PENDING)
        listener.setblocking(False)
        start_soon(self._tasks, self._accept, listener, name="trainers' lobby")
        return self

    async def close(self) -> None:
        """Remove the socket and its folder; whoever accepts is ended by the task group."""
        self._accepting.cancel()
        if self._folder is not None:
            folder = self._folder
            await run_to_end(lambda: shutil.rmtree(folder, ignore_errors=True))
        if self._listener is not None:  # after its reader: the loop knows it by its number
            self._listener.close()

    def expect(self, guest: Guest) -> str:
        """Return a token; ``guest`` gets every connection that brings it, and its rank."""
        token = secrets.token_hex(16)
        self._guests[token] = guest
        return token

    def forget(self, token: str) -> None:
        """Let a token lead nowhere from now on."""
        self._guests.pop(token, None)

    async def _accept(self, listener: socket.socket) -> None:
        with self._accepting:
            while True:
                await anyio.wait_readable(listener)
                try:
                    link, _ = listener.accept()
                except BlockingIOError:
                    continue
                except OSError as exc:  # no descriptor is left, or who knocked is gone
                    log.warning("trainers_lobby", error=str(exc))
                    await anyio.sleep(PAUSE)
                    continue
                self._admit(link)

    def _admit(self, link: socket.socket) -> None:
        if self._waiting >= PENDING or peer_uid(link) not in {None, os.getuid()}:
            link.close()
            return
        self._waiting += 1
        start_soon(self._tasks, self._serve, link, name="a trainer's connection")

    async def _serve(self, link: socket.socket) -> None:
        with link:
            connection = Connection(link)
            try:
                try:
                    found = await self._greet(connection)
                finally:
                    self._waiting -= 1
                if found is not None:
                    guest, rank = found
                    await guest(connection, rank)
            except (FlareError, OSError) as exc:
                log.warning("trainer_connection", error=str(exc))

    async def _greet(self, connection: Connection) -> tuple[Guest, int] | None:
        with anyio.move_on_after(self._limits.handshake_timeout):
            came = await connection.receive(HELLO_BYTES)
            if came is None:
                return None
            hello, _ = came
            if not isinstance(hello, Hello):
                raise RemoteProtocolError("unexpected", type(hello).__name__)
            guest = self._guests.get(hello.token)
            if guest is None:
                log.warning("trainer_unknown", rank=hello.rank)
                await connection.refuse("the client does not know this process, or its job is over")
                return None
            return guest, hello.rank
        return None


def new_folder() -> Path:
    """Return a new folder, for this user only, whose path leaves room for a socket's name.

    Raises:
        OSError: there is no place for it.
    """
    folder = Path(tempfile.mkdtemp(prefix="flare-trainers-"))
    if len(os.fsencode(folder)) > LONGEST_PATH:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="flare-trainers-", dir="/tmp"))
    return folder
