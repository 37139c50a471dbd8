"""Many clients in one process, for ``bench.fanout`` and ``bench.beside``.

``python -m bench.crowd SETTING`` opens its connections on ``connect``, a few at a time. ``pull``
lets each client pull the offer once, verified and into memory that is used again and again.
``warm`` does both and closes, with as many clients as may be busy at a time.
``halt`` starts a pull of the first client and stops this process by a signal as soon as the first
bytes have landed; once it is continued, ``finish`` waits for the rest and tells how many they were.
``memory`` and ``traced`` answer as those of ``bench.origin`` do.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

import anyio

from bench.cpu import ANY_CORE, cpu_seconds, pin
from bench.kept import KeptMemory, KeptSink
from bench.patience import PATIENT
from bench.pipe import commands, say
from bench.refs import ref_from
from bench.resident import memory_figures, traced_files
from bench.wires import transports
from flare_async.jobs.loops import new_loop
from flare_async.net.channel import Channel
from flare_async.net.clock import LoopClock
from flare_async.net.rng import SystemRandom
from flare_async.net.session import Session
from flare_async.roles.context import Context, open_context
from flare_async.sim.loadtest.files import raise_file_limit
from flare_async.transfer.pull import PULL_SCHEMA, PULL_TOPIC, PullRequest
from flare_async.wire.session import OpenOptions, Side

__all__ = ["Setting"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Setting:
    """Whom to connect to, how often, and how many clients may be busy at a time."""

    address: str
    certificates: str
    ref: str
    clients: int
    at_once: int
    tracing: bool = False
    core: int = ANY_CORE


class Crowd:
    """The clients of this process."""

    def __init__(self, setting: Setting, context: Context) -> None:
        self._setting = setting
        self._context = context
        self._ref = ref_from(setting.ref)
        self._memory = KeptMemory(self._ref.nbytes)
        self._sessions: list[Session] = []
        self._halted: tuple[Channel, memoryview] | None = None
        self._missing = 0
        self._seconds: list[float] = []

    async def obey(self) -> None:
        """Do what the parent says, until it says no more."""
        ways: Mapping[str, Callable[[], Awaitable[None]]] = {
            "warm": self._warm,
            "connect": self._connect,
            "pull": self._pull,
        }
        async for command in commands():
            if command == "traced":
                say({name: float(nbytes) for name, nbytes in traced_files().items()})
            elif command == "halt":
                self._halt()
            elif command == "finish":
                say(await self._finish())
            elif command == "memory":
                say(memory_figures())
            else:
                say(await self._measured(ways[command]))

    async def close(self) -> None:
        """End all sessions."""
        sessions, self._sessions = self._sessions, []
        await self._each(sessions, self._leave)

    async def _measured(self, way: Callable[[], Awaitable[None]]) -> Mapping[str, float]:
        self._seconds = []
        used, began = cpu_seconds(), time.perf_counter()
        await way()
        seconds = time.perf_counter() - began
        found = {"seconds": seconds, "cpu": cpu_seconds() - used}
        if self._seconds:
            found |= {"median_s": median(self._seconds), "slowest_s": max(self._seconds)}
        return found

    async def _warm(self) -> None:
        await self._each(range(min(self._setting.at_once, self._setting.clients)), self._enter)
        await self._pull()
        await self.close()

    async def _connect(self) -> None:
        await self._each(range(self._setting.clients), self._enter)

    async def _enter(self, number: int) -> None:
        began = time.perf_counter()
        link = await self._context.network.connect(self._setting.address)
        endpoint = self._context.endpoint(f"client-{number}", "client")
        session = await Session(link, Side.CONNECTOR, endpoint).__aenter__()
        self._sessions.append(session)
        self._seconds.append(time.perf_counter() - began)

    async def _leave(self, session: Session) -> None:
        await session.__aexit__(None, None, None)

    async def _pull(self) -> None:
        await self._each(self._sessions, self._fetch)

    async def _fetch(self, session: Session) -> None:
        began = time.perf_counter()
        view = self._memory.take()
        await self._context.downloader.fetch(session, self._ref, KeptSink(view))
        self._memory.give(view)
        self._seconds.append(time.perf_counter() - began)

    def _halt(self) -> None:
        session, size = self._sessions[0], self._ref.nbytes
        request = PULL_SCHEMA.encode(PullRequest(self._ref.key, "tensor", 0, size))
        channel = session.open(PULL_TOPIC, request, OpenOptions(end=True, leased=True))
        view = self._memory.take()
        channel.lease(view, self._stop_at_first)
        self._halted = channel, view

    def _stop_at_first(self, offset: int, length: int) -> None:
        if offset == 0:
            self._missing = self._ref.nbytes - length
            os.kill(os.getpid(), signal.SIGSTOP)

    async def _finish(self) -> Mapping[str, float]:
        if self._halted is not None:
            channel, view = self._halted
            await channel.landed()
            self._memory.give(view)
        return {"missing": self._missing}

    async def _each(self, items: Sequence[T], do: Callable[[T], Awaitable[None]]) -> None:
        waiting = iter(items)

        async def work() -> None:
            for item in waiting:
                await do(item)

        async with anyio.create_task_group() as group:
            for _ in range(min(self._setting.at_once, len(items))):
                group.start_soon(work)


@asynccontextmanager
async def opened(setting: Setting) -> AsyncIterator[Crowd]:
    """Own a crowd; its sessions end with the block."""
    network = transports(PATIENT, setting.certificates)
    async with open_context(LoopClock(), SystemRandom(), network, PATIENT) as context:
        crowd = Crowd(setting, context)
        try:
            yield crowd
        finally:
            with anyio.CancelScope(shield=True):
                await crowd.close()


async def main() -> None:
    """Connect and pull as the command line says."""
    setting = Setting(**json.loads(sys.argv[1]))
    pin(setting.core)
    raise_file_limit(setting.clients)
    async with opened(setting) as crowd:
        if setting.tracing:
            tracemalloc.start()
        say({"ready": 1})
        await crowd.obey()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
