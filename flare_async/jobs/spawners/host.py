"""The actor that hosts sites on a cluster: what runs on its nodes.

An actor has an event loop of its own, which answers while user code runs in its one thread. Ray
moves the bytes and arrays of ``train`` between processes of the same user, by its own means;
flare_async must be installed on every node, and the user's file must be there under its path.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from flare_async.errors import RemoteProtocolError
from flare_async.jobs.memory import return_memory
from flare_async.jobs.spawners.messages import PREFIX, Assignment, Setup, decode, encode
from flare_async.jobs.spawners.shared import from_array, to_array
from flare_async.jobs.spawners.workbench import Workbench
from flare_async.jobs.spawners.worker import set_up

if TYPE_CHECKING:
    from flare_async.jobs.spawners.shared import Bytes

__all__ = ["SiteHost"]


class SiteHost:
    """Trains the sites that it is asked to, one after the other; their state stays with it."""

    def __init__(self, setup: bytes) -> None:
        message = decode(setup[PREFIX:])
        if not isinstance(message, Setup):
            raise RemoteProtocolError("worker_message", f"unexpected {type(message).__name__}")
        set_up(Setup(with_ours(message.path), message.pythonpath))
        self._bench = Workbench()
        self._thread = ThreadPoolExecutor(1, "site")

    async def where(self) -> tuple[str, int]:
        """Return the node's name and the process id; at once, also while user code runs."""
        return os.uname().nodename, os.getpid()

    async def train(self, body: bytes, model: Bytes) -> tuple[bytes, Bytes | None]:
        """Train once and return the answer and the update.

        Waits for user code, for ever: who asks ends the actor to end the wait.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, partial(self._train, body, model))

    def _train(self, body: bytes, model: Bytes) -> tuple[bytes, Bytes | None]:
        assignment = decode(body[PREFIX:])
        if not isinstance(assignment, Assignment):
            raise RemoteProtocolError("worker_message", f"unexpected {type(assignment).__name__}")
        tensors = partial(from_array, model, assignment.specs, assignment.aliases)
        answer, update = self._bench.answer(assignment, tensors)
        array = None if update is None else to_array(update)
        if assignment.trims:
            return_memory()
        return encode(answer), array


def with_ours(path: Sequence[str]) -> tuple[str, ...]:
    """Return an import path that ends in the node's own: what is installed may lie elsewhere."""
    return (*path, *(entry for entry in sys.path if entry not in path))
