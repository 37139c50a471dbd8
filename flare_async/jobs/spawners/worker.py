"""The worker process of a ``ProcessSpawner``: ``python -m`` this module, with a socket's number.

It loads the user's file by its path, once, and trains one task at a time until its socket closes.
Interrupts from the keyboard are the parent's to handle.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from flare_async.errors import RemoteProtocolError
from flare_async.jobs.memory import return_memory
from flare_async.jobs.spawners.messages import (
    MAX_MESSAGE,
    PREFIX,
    Assignment,
    Done,
    Failed,
    Setup,
    decode,
    encode,
)
from flare_async.jobs.spawners.platform import die_with_parent
from flare_async.jobs.spawners.shared import Borrowed, mapped, write_tensors
from flare_async.jobs.spawners.workbench import Workbench
from flare_async.transfer.tensors import TensorSet

__all__ = ["Worker", "main", "set_up"]

CLOSE_ON_EXEC: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
DESCRIPTORS: Final = 2  # the model's file and the update's


class Worker:
    """Answers assignments: the mapped model stays, and so does what the bench keeps."""

    def __init__(self) -> None:
        self._bench = Workbench()
        self._model: tuple[int, TensorSet] | None = None

    def answer(self, assignment: Assignment, fds: Sequence[int]) -> Done | Failed:
        """Train once; the update is written to the second descriptor."""
        model, update = fds
        answer, tensors = self._bench.answer(assignment, partial(self._tensors, assignment, model))
        if tensors is not None:
            write_tensors(Borrowed(update), tensors)
        return answer

    def _tensors(self, assignment: Assignment, fd: int) -> TensorSet:
        if self._model is None or self._model[0] != assignment.model:
            self._model = None  # unmap the former one first
            tensors = mapped(fd, assignment.specs, assignment.aliases)
            self._model = (assignment.model, tensors)
        return self._model[1]


def receive(link: socket.socket) -> tuple[bytearray, list[int]] | None:
    """Return the next message and its descriptors, or None when the parent has closed.

    Waits for ever: the parent's next message, or its end, ends the wait.

    Raises:
        RemoteProtocolError: the message is too long or cut off.
    """
    head, fds, _, _ = socket.recv_fds(link, PREFIX, DESCRIPTORS, CLOSE_ON_EXEC)
    if not head:
        return None
    rest = _exactly(link, PREFIX - len(head))
    length = int.from_bytes(bytes(head) + rest, "big")
    if length > MAX_MESSAGE:
        raise RemoteProtocolError("worker_message", f"{length} bytes, {MAX_MESSAGE} are allowed")
    return _exactly(link, length), fds


def _exactly(link: socket.socket, length: int) -> bytearray:
    data = bytearray(length)
    view = memoryview(data)
    done = 0
    while done < length:
        got = link.recv_into(view[done:])
        if got == 0:
            raise RemoteProtocolError("worker_message", f"cut off at {done} of {length} bytes")
        done += got
    return data


def serve(link: socket.socket) -> None:
    """Answer one message after the other until the parent closes.

    Raises:
        RemoteProtocolError: the parent sent what is no message of ours.
    """
    worker = Worker()
    while (came := receive(link)) is not None:
        body, fds = came
        try:
            message = decode(body)
            if isinstance(message, Assignment) and len(fds) == DESCRIPTORS:
                link.sendall(encode(worker.answer(message, fds)))
                if message.trims:  # while the parent reads the answer
                    return_memory()
            elif isinstance(message, Setup):
                set_up(message)
            else:
                raise RemoteProtocolError("worker_message", f"unexpected {type(message).__name__}")
        finally:
            for fd in fds:
                os.close(fd)
        sys.stdout.flush()


def set_up(setup: Setup) -> None:
    """Import from where the parent does."""
    sys.path[:] = setup.path
    os.environ.pop("PYTHONPATH", None)
    if setup.pythonpath is not None:
        os.environ["PYTHONPATH"] = setup.pythonpath


def main(arguments: Sequence[str]) -> int:
    """Serve the socket whose number is the first argument; the second is the parent's process id.

    Raises:
        RemoteProtocolError: the parent sent what is no message of ours.
    """
    number, parent = (int(argument) for argument in arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    link = socket.socket(fileno=number)
    link.set_inheritable(False)
    # A parent that goes without waiting for an answer is no error of the worker's.
    with link, suppress(ConnectionError):
        if die_with_parent(parent):
            serve(link)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
