"""The trainer's end of its socket: blocking calls, no thread, and nothing lost when time runs out.

The socket itself never blocks; whoever must wait polls it. So a record can be offered to it without
waiting, and a wait that is interrupted, or runs out of time, leaves what has come for the next one.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections import deque
from typing import Final

from flare_async.errors import RemoteProtocolError, ScriptStopped
from flare_async.jobs.spawners.shared import HasFileno
from flare_async.jobs.trainers.coding import DOWN_BYTES, PREFIX, decode, encode
from flare_async.jobs.trainers.messages import (
    FromTrainer,
    Message,
)
from flare_async.jobs.trainers.shared import Handed

__all__ = ["Wire"]

READ: Final = 64 * 1024
CLOSE_ON_EXEC: Final[int] = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
GONE: Final = "its client is gone"


class Wire:
    """A connected socket; ``path`` is the client's."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._process = os.getpid()
        self._came = bytearray()
        self._files: deque[Handed] = deque()
        self._unsent = bytearray()
        self._sending = threading.Lock()  # records may come from threads that the script starts
        try:
            self._socket.connect(path)
        except OSError as exc:
            self._socket.close()
            raise ScriptStopped(f"{GONE}: {path}: {exc}") from exc
        self._socket.setblocking(False)

    def close(self) -> None:
        """Close the socket; harmless more than once."""
        self._socket.close()

    def send(self, message: FromTrainer, file: HasFileno | None = None) -> None:
        """Send a message, with a file's descriptor; waits while the client does not read.

        Raises:
            ScriptStopped: the client is gone.
            ConfigError: the message holds what cannot travel.
        """
        data = encode(message)
        self._check()
        with self._sending:
            self._flush()
            if file is not None:
                data = data[self._first(data, file) :]
            self._unsent += data
            self._flush()

    def send_now(self, message: FromTrainer) -> bool:
        """Send a message if there is room for its beginning; return whether there was.

        Raises:
            ScriptStopped: the client is gone.
            ConfigError: the message holds what cannot travel.
        """
        data = encode(message)
        self._check()
        if not self._sending.acquire(blocking=False):
            return False
        try:
            return self._offer(data)
        finally:
            self._sending.release()

    def _offer(self, data: bytes) -> bool:
        if self._push():
            self._unsent += data
            whole = len(data)
            self._push()
            if len(self._unsent) < whole:
                return True
            self._unsent.clear()  # not a byte of it has left
        return False

    def receive(self, timeout: float | None) -> Message:
        """Return the next message; waits at most ``timeout`` seconds.

        Raises:
            TimeoutError: none came in time.
            ScriptStopped: the client is gone.
            RemoteProtocolError: what came is no message of ours.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            body = self._cut()
            if body is not None:
                return decode(body)
            self._wait(select.POLLIN, deadline)
            self._read()

    def next_file(self) -> Handed:
        """Return the file that came with the last message.

        Raises:
            RemoteProtocolError: there is none.
        """
        if not self._files:
            raise RemoteProtocolError("trainer_file", "no descriptor came with a model")
        return self._files.popleft()

    def _cut(self) -> bytes | None:
        if len(self._came) < PREFIX:
            return None
        length = int.from_bytes(self._came[:PREFIX], "big")
        if length > DOWN_BYTES:
            raise RemoteProtocolError("trainer_message", f"{length} bytes of {DOWN_BYTES}")
        if len(self._came) < PREFIX + length:
            return None
        body = bytes(self._came[PREFIX : PREFIX + length])
        del self._came[: PREFIX + length]
        return body

    def _read(self) -> None:
        self._check()
        try:
            data, fds, _, _ = socket.recv_fds(self._socket, READ, 1, CLOSE_ON_EXEC)
        except BlockingIOError:
            return
        except OSError as exc:
            raise ScriptStopped(f"{GONE}: {exc}") from exc
        self._files.extend(Handed(fd) for fd in fds)
        if not data:
            raise ScriptStopped(GONE)
        self._came += data

    def _first(self, data: bytes, file: HasFileno) -> int:
        """Send the beginning of a message together with a descriptor; return its length."""
        while True:
            self._wait(select.POLLOUT, None)
            try:
                return socket.send_fds(self._socket, [data], [file.fileno()])
            except BlockingIOError:
                continue
            except OSError as exc:
                raise ScriptStopped(f"{GONE}: {exc}") from exc

    def _flush(self) -> None:
        while not self._push():
            self._wait(select.POLLOUT, None)

    def _push(self) -> bool:
        """Send what is left of former messages; return whether all of it has gone."""
        self._check()
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            return False
        except OSError as exc:
            raise ScriptStopped(f"{GONE}: {exc}") from exc
        return True

    def _wait(self, event: int, deadline: float | None) -> None:
        self._check()
        poll = select.poll()
        poll.register(self._socket, event)
        left = None if deadline is None else deadline - time.monotonic()
        if not poll.poll(None if left is None else max(1000 * left, 0)):
            raise TimeoutError

    def _check(self) -> None:
        if os.getpid() != self._process:
            raise ScriptStopped("this process was forked from a trainer: only that one may talk")
        if self._socket.fileno() < 0:
            raise ScriptStopped("the script has closed its connection")
