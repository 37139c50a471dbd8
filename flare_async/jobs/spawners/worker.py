"""The worker process of a ``ProcessSpawner``: ``python -m`` this module, with a socket's number.

It loads the user's file by its path, once, and trains one task at a time until its socket closes.
Interrupts from the keyboard are the parent's to handle.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import signal
import socket
import sys
import time
import warnings
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from types import ModuleType
from typing import Final, cast

from flare_async.errors import RemoteProtocolError, TrainingFailed
from flare_async.jobs.jobfile import load_job_file
from flare_async.jobs.memory import return_memory
from flare_async.jobs.seeding import seeded
from flare_async.jobs.site import SiteStates
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
from flare_async.jobs.training import (
    TrainOutcome,
    TrainTask,
    call,
    conclude,
    failure_of,
    finish,
    prepare,
)
from flare_async.jobs.work import (
    JOB_MODULE,
    CodeReference,
    EvaluateFunction,
    TrainFunction,
    Work,
)
from flare_async.roles.log_record import LogRecord
from flare_async.transfer.pool import SlotPool
from flare_async.transfer.tensors import TensorSet

__all__ = ["Worker", "load_function", "main"]

CLOSE_ON_EXEC: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
DESCRIPTORS: Final = 2  # the model's file and the update's
MOST_RECORDS: Final = 10_000  # of one task; the oldest go first


class Worker:
    """Answers assignments: the state of sites, the mapped model and loaded files stay."""

    def __init__(self) -> None:
        self._files: dict[str, ModuleType] = {}
        self._pool = SlotPool()
        self._states = SiteStates()
        self._model: tuple[int, TensorSet] | None = None
        self._records: deque[LogRecord] = deque(maxlen=MOST_RECORDS)

    def answer(self, assignment: Assignment, fds: Sequence[int]) -> Done | Failed:
        """Train once; the update is written to the second descriptor."""
        model, update = fds
        self._records.clear()
        try:
            outcome = self._train(assignment, model)
            if outcome.tensors is not None:
                write_tensors(Borrowed(update), outcome.tensors)
        except TrainingFailed as failed:
            return Failed(failed.problem, failed.details, tuple(self._records))
        return Done(
            params_type=outcome.params_type,
            metrics=outcome.metrics,
            meta=outcome.meta,
            seconds=outcome.seconds,
            aliases={} if outcome.tensors is None else outcome.tensors.aliases,
            records=tuple(self._records),
        )

    def _train(self, assignment: Assignment, model_fd: int) -> TrainOutcome:
        info = assignment.site
        train = load_function(assignment.code, self._files, info.name)
        # Only one of the two functions is called, the one that the task is about.
        work = Work(train, assignment.framework, evaluate=cast("EvaluateFunction", train))
        tensors = self._tensors(assignment, model_fd)
        log = self._records.append
        task = TrainTask(work, tensors, info, assignment.meta, assignment.kind, log)
        model, site = prepare(task, self._pool, self._states.of(info))
        started = time.perf_counter()
        with seeded(site):
            result = call(task, model, site)
            if inspect.isawaitable(result):
                result = asyncio.run(finish(site.name, result))
        # The update is written to the shared file next, which is the copy that detaches it.
        seconds = time.perf_counter() - started
        return conclude(task, result, self._pool, seconds=seconds, detach=False)

    def _tensors(self, assignment: Assignment, fd: int) -> TensorSet:
        if self._model is None or self._model[0] != assignment.model:
            self._model = None  # unmap the former one first
            tensors = mapped(fd, assignment.specs, assignment.aliases)
            self._model = (assignment.model, tensors)
        return self._model[1]


def load_function(code: CodeReference, files: dict[str, ModuleType], site: str) -> TrainFunction:
    """Return the function, loading its file when it is not among ``files``.

    Raises:
        TrainingFailed: the file raised while it was loaded, or has no such function.
    """
    module = files.get(code.path)
    if module is None:
        module = _load(code, site)
        files[code.path] = module
    sys.modules[JOB_MODULE] = module
    found: object = module
    for part in code.qualname.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise TrainingFailed(site, f"{code.path} has no function {code.qualname}")
    return functools.partial(found, *code.args, **code.keywords)


def _load(code: CodeReference, site: str) -> ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the submitter's process has shown them
            module = load_job_file(code.path, code.package)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - it is user code
        reason = failure_of(site, error)
    else:
        if module is None:
            raise TrainingFailed(site, f"{code.path} is no Python file")
        return module
    raise TrainingFailed(site, f"loading {code.path}: {reason.problem}", reason.details)


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
                _set_up(message)
            else:
                raise RemoteProtocolError("worker_message", f"unexpected {type(message).__name__}")
        finally:
            for fd in fds:
                os.close(fd)
        sys.stdout.flush()


def _set_up(setup: Setup) -> None:
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
