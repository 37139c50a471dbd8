"""One process of a trainer at the client's end of its socket."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import anyio

from flare_async.errors import RemoteProtocolError
from flare_async.jobs.spawners.shared import HasFileno
from flare_async.jobs.trainers.coding import PREFIX, UP_BYTES, decode, encode
from flare_async.jobs.trainers.messages import (
    Logged,
    Message,
    Refused,
    ToTrainer,
)
from flare_async.jobs.trainers.shared import Handed
from flare_async.net.groups import single_error

__all__ = ["Connection", "Handler", "peer_uid"]

CLOSE_ON_EXEC: Final[int] = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
WAITING: Final = 1024  # messages for a process that does not read
LOGS_A_SECOND: Final = 2000  # beyond, its socket fills, and the trainer drops what finds no room

Handler: TypeAlias = "Callable[[Message, Handed | None], Awaitable[None]]"


def peer_uid(link: socket.socket) -> int | None:
    """Return the user of the process at the other end; None where the system does not tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    size = struct.calcsize("iII")
    return int(struct.unpack("iII", link.getsockopt(socket.SOL_SOCKET, option, size))[1])


class Connection:
    """Reads messages and writes those that were posted; a process that reads none is cut off."""

    def __init__(self, link: socket.socket) -> None:
        link.setblocking(False)
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._outbox: deque[tuple[bytes, HasFileno | None]] = deque()
        self._posted = asyncio.Event()
        self._scope = anyio.CancelScope()
        self.over = asyncio.Event()
        self.received = 0  # messages

    def post(self, message: ToTrainer, file: HasFileno | None = None) -> None:
        """Send a message, with a file's descriptor, as soon as there is room; never waits."""
        if len(self._outbox) >= WAITING:
            self.close()
        elif not self.over.is_set():
            self._outbox.append((encode(message), file))
            self._posted.set()

    def close(self) -> None:
        """End the connection; what was posted and not sent is lost."""
        self._scope.cancel()

    async def run(self, handle: Handler) -> None:
        """Hand over every message until the other end, or ``close``, ends the connection.

        Waits for ever: its process may train as long as it needs.

        Raises:
            RemoteProtocolError: what came is no message of ours.
        """
        try:
            with single_error(), self._scope, self._link:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._write)
                    await self._read(handle)
                    group.cancel_scope.cancel()
        finally:
            self.over.set()
            self._outbox.clear()

    async def refuse(self, problem: str) -> None:
        """Tell a process that it is not wanted; waits for room, which a new socket has."""
        await self._send(encode(Refused(0, problem)), None)

    async def receive(self, most: int = UP_BYTES) -> tuple[Message, Handed | None] | None:
        """Return the next message and the file that came with it; None at the end.

        Raises:
            RemoteProtocolError: it is no message of ours, longer than ``most``, or cut off.
        """
        head, file = await self._head()
        if not head:
            return None
        length = int.from_bytes(head, "big")
        if length > most:
            raise RemoteProtocolError("trainer_message", f"{length} bytes, {most} are allowed")
        message = decode(await self._exactly(length))
        self.received += 1
        return message, file

    async def _read(self, handle: Handler) -> None:
        began, logs = self._loop.time(), 0
        while (came := await self.receive()) is not None:
            await handle(*came)
            logs += isinstance(came[0], Logged)
            if logs >= LOGS_A_SECOND:
                await anyio.sleep(max(0.0, began + 1 - self._loop.time()))
                began, logs = self._loop.time(), 0
            await asyncio.sleep(0)  # a row of messages must not starve the loop

    async def _head(self) -> tuple[bytes, Handed | None]:
        head, file = b"", None
        while len(head) < PREFIX:
            try:
                data, fds, _, _ = socket.recv_fds(self._link, PREFIX - len(head), 1, CLOSE_ON_EXEC)
            except BlockingIOError:
                await self._ready(self._loop.add_reader, self._loop.remove_reader)
                continue
            except ConnectionError:
                return b"", None
            file = Handed(fds[0]) if fds else file
            if not data and head:
                raise RemoteProtocolError("trainer_message", "cut off in its length")
            if not data:
                break
            head += data
        return head, file

    async def _exactly(self, length: int) -> bytearray:
        data = bytearray(length)
        view = memoryview(data)
        done = 0
        while done < length:
            try:
                got = self._link.recv_into(view[done:])
            except BlockingIOError:
                await self._ready(self._loop.add_reader, self._loop.remove_reader)
                continue
            except ConnectionError:
                got = 0
            if got == 0:
                raise RemoteProtocolError("trainer_message", f"cut off at {done} of {length}")
            done += got
        return data

    async def _write(self) -> None:
        while True:
            self._posted.clear()
            while self._outbox:
                data, file = self._outbox[0]
                if not await self._send(data, file):
                    return  # the reading side finds the end
                self._outbox.popleft()
            await self._posted.wait()

    async def _send(self, data: bytes, file: HasFileno | None) -> bool:
        view = memoryview(data)
        fds = [] if file is None else [file.fileno()]
        while view:
            try:
                done = socket.send_fds(self._link, [view], fds) if fds else self._link.send(view)
            except BlockingIOError:
                await self._ready(self._loop.add_writer, self._loop.remove_writer)
                continue
            except OSError:
                return False
            view, fds = view[done:], []
        return True

    async def _ready(
        self,
        add: Callable[[int, Callable[[], None]], object],
        remove: Callable[[int], object],
    ) -> None:
        future: asyncio.Future[None] = self._loop.create_future()

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        add(self._link.fileno(), wake)
        try:
            await future
        finally:
            remove(self._link.fileno())
