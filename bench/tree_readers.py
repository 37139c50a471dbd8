"""The clients of ``bench.relay``: ``python -m bench.tree_readers SETTING``.

Each connects and, at ``pull``, takes the whole model, verified, into memory that is used again as
soon as a tensor is whole.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import anyio

from bench.kept import KeptMemory
from bench.patience import PATIENT
from bench.pipe import commands, say
from bench.refs import ref_from
from flare_async.jobs.loops import new_loop
from flare_async.net.clock import LoopClock
from flare_async.net.registry import Transports
from flare_async.net.rng import SystemRandom
from flare_async.net.session import Session
from flare_async.roles.context import open_context
from flare_async.transfer.spec import TensorSpec
from flare_async.wire.session import Side

__all__ = ["Setting"]


@dataclass(frozen=True, slots=True)
class Setting:
    """Whom to connect to, how often, and what to pull."""

    address: str
    ref: str
    clients: int
    nbytes: int


class PassingSink:
    """Takes tensors of one length, each into a buffer that it gives back when it has landed."""

    def __init__(self, memory: KeptMemory) -> None:
        self._memory = memory
        self._views: dict[str, memoryview] = {}

    def begin(self, specs: Sequence[TensorSpec], aliases: Mapping[str, str] | None = None) -> None:
        """Take note of nothing: all tensors are alike."""

    def destination(self, name: str, offset: int, nbytes: int) -> memoryview:
        """Return the memory of a range."""
        if name not in self._views:
            self._views[name] = self._memory.take()
        return self._views[name][offset : offset + nbytes]

    def landed(self, name: str, offset: int, nbytes: int) -> None:
        """Let the next tensor have the memory once this one is whole."""
        view = self._views.get(name)
        if view is not None and offset + nbytes == len(view):
            self._memory.give(self._views.pop(name))

    def write(self, name: str, offset: int, data: memoryview) -> None:
        """Copy what came in memory of its own."""
        self.destination(name, offset, len(data))[:] = data

    def read(self, name: str, offset: int, nbytes: int) -> memoryview:
        """Return what has landed."""
        return self.destination(name, offset, nbytes)

    def reject(self, name: str, offset: int, nbytes: int) -> None:
        """Take note of nothing: other bytes will land there."""

    def adopt(self, name: str, view: memoryview) -> None:
        """Take note of nothing."""

    def finish(self) -> None:
        """End."""

    def discard(self) -> None:
        """End."""


async def main() -> None:
    """Connect and pull as the command line says."""
    setting = Setting(**json.loads(sys.argv[1]))
    network, memory = Transports(PATIENT), KeptMemory(setting.nbytes)
    ref = ref_from(setting.ref)
    async with (
        open_context(LoopClock(), SystemRandom(), network, PATIENT) as context,
        AsyncExitStack() as stack,
    ):
        sessions: list[Session] = []
        for number in range(setting.clients):
            link = await network.connect(setting.address)
            endpoint = context.endpoint(f"site-{number}", "client")
            session = Session(link, Side.CONNECTOR, endpoint)
            sessions.append(await stack.enter_async_context(session))
        say({"ready": 1})
        async for _ in commands():
            began = time.perf_counter()
            async with anyio.create_task_group() as group:
                for session in sessions:
                    sink = PassingSink(memory)
                    group.start_soon(context.downloader.fetch, session, ref, sink)
            say({"seconds": time.perf_counter() - began})


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
